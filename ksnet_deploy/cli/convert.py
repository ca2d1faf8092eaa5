"""The command ``convert``: weights of any tool to a checkpoint that carries its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ksnet_deploy.cli.options import Overwrite
from ksnet_deploy.cli.terminal import show_notes


def convert(
    weights: Annotated[Path, typer.Argument(help="A state_dict or a training's checkpoint, by whatever tool.")],
    output: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    size: Annotated[
        Literal["uni", "lite", "paper"] | None,
        typer.Option("--size", help="Which network it is, where the file does not say (default: the one that fits)."),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A network setting that differs from the size's, NAME=VALUE.")
    ] = None,
    licence: Annotated[str, typer.Option("--licence", help="Terms of the weights (default: the file's).")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Write weights as a checkpoint that carries its configuration, so that nothing need be assumed of it."""
    from ksnet_deploy.base.errors import ConfigError
    from ksnet_deploy.base.files import check_new_file
    from ksnet_deploy.network.checkpoints import load_checkpoint, save_checkpoint
    from ksnet_deploy.network.config import KSNetConfig

    check_new_file(output, ".safetensors", overwrite=overwrite)
    if set_ and size is None:
        raise ConfigError("--set changes the settings of a size; give --size too")
    wanted = None if size is None else KSNetConfig.named(size).replace(set_ or [])
    checkpoint = load_checkpoint(weights, wanted)
    if wanted is not None and checkpoint.config != wanted:
        raise ConfigError(
            f"{weights} carries a configuration of its own, {checkpoint.config.to_json()}; leave --size and --set out"
        )
    show_notes(checkpoint.notes)
    metadata = checkpoint.metadata
    save_checkpoint(
        checkpoint.model,
        output,
        training=metadata.get("training", f"converted from {weights.name}"),
        licence=licence or metadata.get("licence", "not stated"),
    )
    print(output)
