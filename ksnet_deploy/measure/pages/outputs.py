"""The files that one name asks for: an HTML page, a PNG, or both."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ksnet_deploy.base.errors import OutputError
from ksnet_deploy.base.files import check_new_file

__all__ = ["page_and_sheet"]

SUFFIXES = (".html", ".png")


def page_and_sheet(output: Path, sources: Iterable[Path], *, overwrite: bool) -> dict[str, Path]:
    """Files by suffix: both for a name that ends in .html or in neither, the picture alone for .png.

    Raises:
        OutputError: one of them exists and may not be replaced, is a source, or cannot be where it is to be.
    """
    suffix = output.suffix.lower()
    if suffix not in ("", *SUFFIXES):
        raise OutputError(f"{output} is neither a page nor a picture; end its name in .html or .png")
    wanted = (".png",) if suffix == ".png" else SUFFIXES
    files = {each: output if suffix == each else output.with_suffix(each) for each in wanted}
    for file in files.values():
        for source in sources:
            if file.exists() and source.exists() and file.samefile(source):
                raise OutputError(f"{file} is what is to be looked at; give another name for the output")
        check_new_file(file, file.suffix, overwrite=overwrite)
    return files
