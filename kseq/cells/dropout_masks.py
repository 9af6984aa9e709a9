"""Where dropout masks are kept: with the call that drew them, in the thread that makes it, and not with the cell.

So threads that train at the same time, and layers that share a cell, do not use each other's masks.
"""

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from kseq.backend import Tensor


class _Calls(threading.local):
    """The calls that are going on in this thread: the masks of each cell, by what they drop.

    The last is the innermost call; the first is for steps that are taken by hand, or in Keras's loop.
    """

    def __init__(self):
        self.masks = [weakref.WeakKeyDictionary()]


_CALLS = _Calls()


@contextlib.contextmanager
def masks_of_one_call() -> Iterator[None]:
    """Within this context all cells draw masks of their own, which are forgotten at its end."""
    _CALLS.masks.append(weakref.WeakKeyDictionary())
    try:
        yield
    finally:
        _CALLS.masks.pop()


class DropoutMasks:
    """What `DropoutRNNCell` says of Keras's cells, but that masks are kept here. Comes before it among the bases."""

    def kept_mask(self, kind: str, draw: Callable[[], Any]) -> Any:
        """Return the mask or masks of this kind, which are drawn once for a sequence."""
        masks = _CALLS.masks[-1].setdefault(self, {})
        if kind not in masks:
            masks[kind] = draw()
        return masks[kind]

    def forget_masks(self, *kinds: str) -> None:
        """Have masks drawn anew."""
        for kind in kinds:
            _CALLS.masks[-1].get(self, {}).pop(kind, None)

    def get_dropout_mask(self: Any, step_input: Tensor) -> Any:
        """Return the mask of inputs `(batch, features)`, or one for each gate; None without dropout."""
        if self.dropout <= 0:
            return None
        return self.kept_mask("input", lambda: self._create_dropout_mask(step_input, self.dropout))

    def get_recurrent_dropout_mask(self: Any, step_input: Tensor) -> Any:
        """Return the mask of the hidden state `(batch, units)`, or one for each gate; None without dropout."""
        if self.recurrent_dropout <= 0:
            return None
        return self.kept_mask("recurrent", lambda: self._create_dropout_mask(step_input, self.recurrent_dropout))

    def reset_dropout_mask(self) -> None:
        """Forget the mask of the inputs: a new sequence begins."""
        self.forget_masks("input")

    def reset_recurrent_dropout_mask(self) -> None:
        """Forget the mask of the hidden state."""
        self.forget_masks("recurrent")
