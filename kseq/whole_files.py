"""Files that are written as a whole, or not at all."""

import os
import pathlib
from collections.abc import Callable
from typing import BinaryIO


def write_whole(path: str | os.PathLike[str], write: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file under another name, and give it its name when it is complete and on the disk.

    If it cannot be written, as on a full disk, a file of this name stays as it was, and no part of the new one is left.

    Args:
        path: Path of the file, in a folder that exists.
        write: Its content, or a function that writes it into a binary file.

    Raises:
        OSError: If it cannot be written.
    """
    target = pathlib.Path(os.path.realpath(path))
    whole = not target.exists() or target.is_file()  # not a pipe or a device
    part = target.with_name(f".{target.name}.{os.getpid()}.part") if whole else target
    try:
        with open(part, "wb") as file:
            if isinstance(write, bytes):
                file.write(write)
            else:
                write(file)
            if whole:
                file.flush()
                os.fsync(file.fileno())
        if whole:
            os.replace(part, target)
            _sync_folder(target.parent)
    except BaseException:
        if whole:
            part.unlink(missing_ok=True)
        raise


def _sync_folder(folder: pathlib.Path) -> None:
    """Wait until a renamed file's new name is on the disk, where folders can be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
