"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[
    str, typer.Option("--model", "-m", help="A checkpoint (.safetensors, .pth), an exported .onnx, 'uni' or 'lite'.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Size = Annotated[str, typer.Option("--size", "-s", help="LR frame size, HEIGHTxWIDTH.")]
