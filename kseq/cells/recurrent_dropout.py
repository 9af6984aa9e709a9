"""Dropout of the hidden state that goes into a cell's recurrent map."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops, tree

from kseq.backend import Tensor
from kseq.equations import Equations


class Dropped(NamedTuple):
    """What `recur` takes where the hidden state is dropped.

    Attributes:
        arguments: What the cell's own `recur` takes.
        masks: `(rows, units)`, 0 or 1 / (1 - rate): a tuple of one for all gates, or of one for each gate.
    """

    arguments: Any
    masks: tuple


def with_recurrent_dropout(equations: Equations) -> Equations:
    """Return equations whose `recur` takes `Dropped` arguments as well as plain ones.

    With m one mask for all gates `recur(h * m)`. With a mask for each gate, whose part of the weights lies in the last
    axis, `[recur_1(h * m_1), recur_2(h * m_2), ...]`.
    """

    def recur(hidden: Tensor, arguments: Any) -> Tensor:
        if not isinstance(arguments, Dropped):
            return equations.recur(hidden, arguments)
        parts = [equations.recur(_drop(hidden, mask), weights) for mask, weights in _gates(arguments)]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    inner_gradient = equations.recur_gradient
    gradient = None if inner_gradient is None else _gradient(inner_gradient)
    return equations._replace(recur=recur, recur_gradient=gradient, whole_batch=True)


def _gradient(inner: Callable[[Any], Callable[[Tensor], Tensor]]) -> Callable[[Any], Callable[[Tensor], Tensor]]:
    def recur_gradient(arguments: Any) -> Callable[[Tensor], Tensor]:
        if not isinstance(arguments, Dropped):
            return inner(arguments)
        gates = [(mask, inner(weights)) for mask, weights in _gates(arguments)]

        def to_hidden(d_recurrent: Tensor) -> Tensor:
            parts = ops.split(d_recurrent, len(gates), axis=-1) if len(gates) > 1 else [d_recurrent]
            terms = [backward(part) * mask for part, (mask, backward) in zip(parts, gates, strict=True)]
            return sum(terms[1:], terms[0])

        return to_hidden

    return recur_gradient


def _gates(dropped: Dropped) -> list[tuple[Tensor, Any]]:
    """Return `(mask, what recur takes)` for all gates at once, or for each."""
    count = len(dropped.masks)
    if count == 1:
        return [(dropped.masks[0], dropped.arguments)]
    parts = [ops.split(weights, count, axis=-1) for weights in tree.flatten(dropped.arguments)]
    packed = [tree.pack_sequence_as(dropped.arguments, list(part)) for part in zip(*parts, strict=True)]
    return list(zip(dropped.masks, packed, strict=True))


def _drop(hidden: Tensor, mask: Tensor) -> Tensor:
    """Multiply `(rows, ...)`, or `(time * rows, ...)` with time first, by `mask` `(rows, ...)`."""
    dropped = ops.reshape(hidden, (-1, *ops.shape(mask))) * mask
    return ops.reshape(dropped, ops.shape(hidden))
