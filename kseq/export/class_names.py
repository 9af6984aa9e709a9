"""The names of classes, an asset of the exported model."""

import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

FILE = "class_names.txt"


class ClassNames(tf.Module):
    """Names of classes, in the graph: the asset `class_names.txt` has one name per line, in the order of the ids.

    Args:
        names: The names in the order of the ids.

    Raises:
        ValueError: If a name is empty, has a line break, or is repeated.
    """

    def __init__(self, names: Sequence[str]):
        super().__init__()
        folder = tempfile.mkdtemp(prefix="kseq-class-names-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)  # by then the export is written
        path = pathlib.Path(folder) / FILE
        path.write_bytes("".join(f"{name}\n" for name in names).encode())
        number, line = tf.lookup.TextFileIndex.LINE_NUMBER, tf.lookup.TextFileIndex.WHOLE_LINE
        lines = tf.lookup.TextFileInitializer(str(path), tf.int64, number, tf.string, line)
        self._table = tf.lookup.StaticHashTable(lines, "")

    def __call__(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the names of `ids`, int of any shape; the empty text for ids that are no class."""
        return self._table.lookup(tf.cast(ids, tf.int64))


def check_class_names(names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the names as a tuple.

    Raises:
        TypeError: If `names` is not a sequence of texts.
        ValueError: If there is no name, or a name is empty, has a line break, or is repeated.
    """
    if names is None:
        return None
    # The order of the names is that of the ids, which sets and mappings do not have.
    listed = isinstance(names, Sequence | np.ndarray) and not isinstance(names, str | bytes)
    if not listed or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"class_names={names!r}, but it must be a list of texts, one for each class, in the order of the ids."
        )
    names, seen = tuple(str(name) for name in names), set()
    for index, name in enumerate(names):
        if not name or "\n" in name or "\r" in name:
            raise ValueError(f"class_names[{index}] is {name!r}, but a name is a text of one line that is not empty.")
        if name in seen:
            raise ValueError(
                f"class_names[{index}] is {name!r}, which is the name of another class. Rename one of them."
            )
        seen.add(name)
    if not names:
        raise ValueError("class_names is empty, but it must have a name for each class. Leave it out.")
    return names
