"""The command that serves the page: web. ``app.py`` adds it to the application."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from ksnet_deploy.base.errors import ConfigError

__all__ = ["parse_bytes", "web"]

UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def web(
    folder: Annotated[
        Path | None,
        typer.Option("--folder", "-f", metavar="FOLDER", help="Films and results (default: in your user data)."),
    ] = None,
    port: Annotated[int, typer.Option("--port", "-p", help="Port to listen on; 0: any.", min=0, max=65535)] = 7860,
    host: Annotated[
        str, typer.Option("--host", metavar="NAME", help="Address to listen on; beyond this machine with a login.")
    ] = "127.0.0.1",
    auth: Annotated[
        str | None,
        typer.Option("--auth", metavar="USER:PASSWORD", help="Login (default: a token, where --host needs one)."),
    ] = None,
    max_upload: Annotated[str, typer.Option("--max-upload", metavar="SIZE", help="Largest film taken.")] = "4GB",
) -> None:
    """Open a page in the browser: drop a film, look at it, upscale it, fetch it."""
    most = parse_bytes(max_upload)
    from ksnet_deploy.web.server import serve

    if folder is None:
        import platformdirs

        folder = Path(platformdirs.user_data_dir("ksnet-deploy")) / "web"

    def say(address: str) -> None:
        print(address, flush=True)
        typer.echo(
            f"Films and results are in {folder}. Ctrl-C ends the server; what is not done can be resumed.", err=True
        )
        if "?token=" in address or auth is not None:
            typer.echo("The connection is not encrypted; use it in a network that you trust.", err=True)

    serve(folder, host=host, port=port, auth=auth, most_upload=most, on_ready=say)


def parse_bytes(text: str) -> int:
    """Bytes of a size such as ``500MB`` or ``4GB``, in units of a thousand. Raises ConfigError for anything else."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([kmgt]b)?", text.strip().lower())
    size = 0 if match is None else int(float(match[1]) * UNITS[match[2] or ""])
    if size <= 0:
        raise ConfigError(f"'{text}' is no size of a file; give for example 500MB or 4GB")
    return size
