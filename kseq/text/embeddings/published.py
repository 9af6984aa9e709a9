"""Published vectors by name, fetched with `keras.utils.get_file`."""

import os
import pathlib
import shutil
import tempfile
import urllib.error
import zipfile

import keras

STANFORD = "https://nlp.stanford.edu/data/"
# Archive: its SHA-256, and the sizes of the vectors in it; without sizes it contains one file of its own name.
GLOVE = {
    "glove.6B": ("617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb", (50, 100, 200, 300)),
    "glove.42B.300d": ("03d5d7fa28e58762ace4b85fb71fe86a345ef0b5ff39f5390c14869da0fc1970", ()),
    "glove.840B.300d": ("c06db255e65095393609f19a4cfca20bf3a71e20cc53e892aafa490347e3849f", ()),
    "glove.twitter.27B": ("792af52f795d1a32c9842a3240f5f3fe5e941a8ff6df5eb0f9d668092ebc019c", (25, 50, 100, 200)),
}
PUBLISHED = {
    f"{archive}.{size}d" if size else archive: archive
    for archive, (_, sizes) in GLOVE.items()
    for size in sizes or (0,)
}


def fetched(name: str) -> pathlib.Path:
    """Return the file with the published vectors `name`, one of `PUBLISHED`; fetched once, then from Keras's cache.

    Raises:
        ConnectionError: If the archive cannot be fetched.
        ValueError: If it is not the archive that is expected.
    """
    archive = PUBLISHED[name]
    try:
        path = keras.utils.get_file(f"{archive}.zip", STANFORD + f"{archive}.zip", file_hash=GLOVE[archive][0])
    except (OSError, urllib.error.URLError) as error:
        raise ConnectionError(
            f"{name} could not be fetched from {STANFORD}{archive}.zip ({error}). Without a network, fetch the archive "
            f"elsewhere, and give load_embeddings the path of {name}.txt in it."
        ) from error
    except ValueError as error:
        raise ValueError(f"{archive}.zip from {STANFORD} is not the archive that is expected: {error}") from error
    except Exception as error:
        # Keras raises a plain Exception both for an answer that is an error and for a server that is not reached.
        raise ConnectionError(f"{name} could not be fetched: {error}") from error
    target = pathlib.Path(path).with_name(f"{name}.txt")
    with zipfile.ZipFile(path) as archived:
        if not target.exists() or target.stat().st_size != archived.getinfo(target.name).file_size:
            _extract(archived, target)
    return target


def _extract(archived: zipfile.ZipFile, target: pathlib.Path) -> None:
    """Extract the file of this name, under a temporary name until it is complete."""
    number, part = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(number, "wb") as file, archived.open(target.name) as packed:
            shutil.copyfileobj(packed, file, 1 << 20)
        os.chmod(part, 0o644)  # mkstemp lets only the user read it
        os.replace(part, target)
    except BaseException:
        os.unlink(part)
        raise
