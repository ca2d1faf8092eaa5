"""Put a trained checkpoint into the package in half precision: bundle_checkpoint.py FILE NAME TRAINING LICENCE."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from ksnet_deploy.network.checkpoints import load_checkpoint, save_checkpoint

FOLDER = Path(__file__).parents[1] / "ksnet_deploy" / "bundled"


def main(checkpoint: str, name: str, training: str, licence: str) -> None:
    target = FOLDER / f"{name}.safetensors"
    model = load_checkpoint(Path(checkpoint)).model
    save_checkpoint(model, target, training=training, licence=licence, dtype=torch.float16)
    print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
