"""Folder that an export writes into before its version has a name, and the removal of those that were left behind."""

import contextlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PREFIX = ".writing-"
LOCK = "lock"  # file in the folder, locked as long as the export's process lives
_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")  # of Linux


@contextlib.contextmanager
def scratch_folder(base: pathlib.Path) -> Iterator[pathlib.Path]:
    """Make a folder in `base` for the `with` block, after removing those of exports that were killed.

    Servers ignore it, since its name is not a number. If its process is killed, a later export removes it, but only if
    the system has not been started again since then, and if the file system has locks.

    Args:
        base: The model's base folder.
    """
    run = _system_run()
    if run:
        _remove_left_behind(base, f"{PREFIX}{run}-")
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{PREFIX}{run}-" if run else PREFIX, dir=base))
        )
        if run:
            stack.enter_context(_locked(folder))
        yield folder


def _system_run() -> str:
    """Return an identifier of the system's run since its last start; empty if there is none, or if there are no locks.

    Containers of a machine share it, and its locks. Other machines that share the folder have another one.
    """
    if fcntl is None:
        return ""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Lock a folder; the system unlocks it when the process ends, however it ends."""
    with (folder / f"new_{LOCK}").open("w") as file:
        if _lock(file.fileno()):
            # Only now, so that nobody finds the file before it is locked.
            (folder / f"new_{LOCK}").rename(folder / LOCK)
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)  # before it is unlocked, so that nobody else removes the folder


def _lock(descriptor: int) -> bool:
    """Return whether a file is now locked by this process; False if it is locked already, or if locks fail."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # pyright: ignore[reportOptionalMemberAccess]
    except OSError:
        return False
    return True


def _remove_left_behind(base: pathlib.Path, prefix: str) -> None:
    """Remove the folders of this run of the system whose processes are gone; in doubt, a folder stays."""
    for folder in base.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # no lock: its process has not made it yet, or somebody else removes it
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                is_gone = _lock(descriptor)
                if is_gone:
                    (folder / LOCK).unlink()
            finally:
                os.close(descriptor)  # first, since NFS keeps a file that is open
            if is_gone:
                shutil.rmtree(folder, ignore_errors=True)
