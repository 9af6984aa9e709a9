"""Calls outside graphs: which of them XLA compiles, so that few programs serve many calls."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from keras import tree

FIRST_CALLS = 3  # of equal sizes, that are not compiled: there may be no more, and a compilation takes as long
MOST_SIZES = 32  # that are compiled of one kind of call
MOST_KINDS = 32  # of calls of which the compiled sizes are known
MOST_COUNTS = 1024  # of calls that are not compiled

_counts: OrderedDict[Hashable, int] = OrderedDict()
_compiled: OrderedDict[Hashable, set[Hashable]] = OrderedDict()


def is_compiled_call(kind: Hashable, sizes: Hashable, *, at_once: bool) -> bool:
    """Count a call, and return whether it shall be compiled: once it has come again, if there are not too many sizes.

    Args:
        kind: What the call has in common with others that share its compiled function.
        sizes: The padded sizes of its arguments.
        at_once: Whether to compile it at the first call.
    """
    compiled = _compiled.setdefault(kind, set())
    _compiled.move_to_end(kind)
    while len(_compiled) > MOST_KINDS:
        _compiled.popitem(last=False)
    if sizes in compiled:
        return True
    count = _counts[kind, sizes] = _counts.pop((kind, sizes), 0) + 1
    while len(_counts) > MOST_COUNTS:
        _counts.popitem(last=False)
    if len(compiled) >= MOST_SIZES or not (at_once or count > FIRST_CALLS):
        return False
    compiled.add(sizes)
    return True


def sizes_of(nest: Any) -> Hashable:
    """Return the shapes of the tensors in a nest, outside graphs."""
    return tuple(tuple(leaf.shape) for leaf in tree.flatten(nest) if hasattr(leaf, "shape"))
