"""One HTML file that needs no server: a template of ``templates/``, its data and its pictures."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ksnet_deploy.base.version import __version__

__all__ = ["render", "write_page"]

TEMPLATES = Path(__file__).parent / "templates"


def render(kind: Literal["slider", "maps"], title: str, data: Mapping[str, Any]) -> str:
    """The text of a page.

    What comes from outside cannot become markup or code: the title is escaped, the data is JSON that the page's script
    puts in place as text, and the page's policy runs the template's own script and nothing else, by its hash.

    Args:
        kind: the template.
        title: name of the window.
        data: what the template's script reads; infinities and NaN are not JSON and raise ValueError.
    """
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("look.css", f"{kind}.css"))
    script = (TEMPLATES / f"{kind}.js").read_text(encoding="utf-8")
    values = json.dumps(data, allow_nan=False)  # ASCII: names that are no Unicode pass as escapes
    parts = {
        "TITLE": html.escape(title),
        "VERSION": html.escape(__version__),
        "STYLE": style,
        "STYLE_HASH": _source_hash(style),
        "BODY": (TEMPLATES / f"{kind}.html").read_text(encoding="utf-8"),
        "DATA": values.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
        "SCRIPT": script,
        "SCRIPT_HASH": _source_hash(script),
    }
    page = (TEMPLATES / "page.html").read_text(encoding="utf-8")
    return re.sub("@@([A-Z_]+)@@", lambda match: parts[match[1]], page)


def write_page(path: Path, kind: Literal["slider", "maps"], title: str, data: Mapping[str, Any]) -> None:
    """Write what :func:`render` gives; letters of a title that are no Unicode become question marks."""
    path.write_bytes(render(kind, title, data).encode("utf-8", "replace"))


def _source_hash(text: str) -> str:
    """A source expression of a Content-Security-Policy, as in CSP Level 3, 2.3.1."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
