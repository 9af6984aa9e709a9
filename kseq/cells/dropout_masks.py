"""Dropout masks, stored by call and thread and not in the cells.

Threads that train at the same time, and layers that share a cell, therefore do not use each other's masks.
"""

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from kseq.backend import Tensor


class _Calls(threading.local):
    """The calls in progress in this thread: for each call, the masks of each cell by kind.

    The last entry is the innermost call. The first is for cells that are called step by step, by users or by Keras's
    loop.
    """

    def __init__(self):
        self.masks = [weakref.WeakKeyDictionary()]


_CALLS = _Calls()


@contextlib.contextmanager
def masks_of_one_call() -> Iterator[None]:
    """Make all cells draw new masks within this context, and discard them at its end."""
    _CALLS.masks.append(weakref.WeakKeyDictionary())
    try:
        yield
    finally:
        _CALLS.masks.pop()


def drawn_masks(cells: list) -> list[dict[str, Any]]:
    """Return the masks that each cell has drawn in the innermost call, by kind; a nest of tensors."""
    return [dict(_CALLS.masks[-1].get(cell, {})) for cell in cells]


@contextlib.contextmanager
def masks_given(cells: list, masks: list[dict[str, Any]]) -> Iterator[None]:
    """Have the cells use these masks, the result of `drawn_masks`, within this context."""
    with masks_of_one_call():
        for cell, own in zip(cells, masks, strict=True):
            _CALLS.masks[-1][cell] = dict(own)
        yield


class DropoutMasks:
    """The methods of Keras's `DropoutRNNCell` with masks stored by call. Comes before that class among the bases."""

    def kept_mask(self, kind: str, draw: Callable[[], Any]) -> Any:
        """Return the mask or masks of this kind, drawn once for a sequence."""
        masks = _CALLS.masks[-1].setdefault(self, {})
        if kind not in masks:
            masks[kind] = draw()
        return masks[kind]

    def forget_masks(self, *kinds: str) -> None:
        """Discard the masks of these kinds, so that new ones are drawn."""
        for kind in kinds:
            _CALLS.masks[-1].get(self, {}).pop(kind, None)

    def get_dropout_mask(self: Any, step_input: Tensor) -> Any:
        """Return the mask of inputs `(batch, features)`, or a list with one for each gate; None without dropout."""
        if self.dropout <= 0:
            return None
        return self.kept_mask("input", lambda: self._create_dropout_mask(step_input, self.dropout))

    def get_recurrent_dropout_mask(self: Any, step_input: Tensor) -> Any:
        """Return the mask of the hidden state `(batch, units)`, or one for each gate; None without dropout."""
        if self.recurrent_dropout <= 0:
            return None
        return self.kept_mask("recurrent", lambda: self._create_dropout_mask(step_input, self.recurrent_dropout))

    def reset_dropout_mask(self) -> None:
        """Discard the mask of the inputs, before a new sequence."""
        self.forget_masks("input")

    def reset_recurrent_dropout_mask(self) -> None:
        """Discard the mask of the hidden state, before a new sequence."""
        self.forget_masks("recurrent")
