"""Options that several commands share, and the look of their help."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

Model = Annotated[
    str, typer.Option("--model", "-m", help="A checkpoint (.safetensors, .pth), an exported .onnx, or a bundled name.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Size = Annotated[str, typer.Option("--size", "-s", help="LR frame size, HEIGHTxWIDTH.")]


class Command(TyperCommand):
    """A command whose help does not spend a line on how to get it, and which takes no empty arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for before, arg in zip(["", *args], [] if ctx.resilient_parsing else args, strict=False):
            if not arg or (arg.startswith("--") and arg.endswith("=")):  # of an empty path the folder itself is made
                name = arg or (before if before.startswith("-") else "")
                what = f"the value of {name.removesuffix('=')}" if name else "an argument"
                raise typer.BadParameter(f"{what} is empty, as an unset variable of a shell is; give one", ctx=ctx)
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        if option is not None:
            option.hidden = True
        return option
