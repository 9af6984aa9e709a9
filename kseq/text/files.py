"""Reading of text files and of other libraries' vocabulary files."""

import gzip
import os
import pathlib
from collections.abc import Iterator


def file_bytes(path: str | os.PathLike[str], kind: str) -> bytes:
    """Return the content of the file at `path`.

    Raises:
        FileNotFoundError: If there is no such file; `kind` is what it should be.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}. Expected a {kind}.")
    return path.read_bytes()


def text_lines(path: os.PathLike[str]) -> Iterator[bytes]:
    """Yield the lines of the text file at `path`, without their ends; a name that ends in `.gz` is decompressed.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no text file {str(path)!r}. Expected UTF-8 text, one text per line.")
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as lines:
        for line in lines:
            yield line.removesuffix(b"\n").removesuffix(b"\r")
