"""Dropout of the hidden state before a cell's recurrent map."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops, tree

from kseq.backend import Tensor
from kseq.engine import Equations, Weights


class Dropped(NamedTuple):
    """The recurrent weights of a cell whose hidden state has dropout.

    Attributes:
        weights: The cell's own recurrent weights.
        masks: A list of one mask for all gates, or of one for each gate: `(rows, units)`, 0 or 1 / (1 - rate).
    """

    weights: Any
    masks: list


def with_recurrent_dropout(equations: Equations, draw: Callable[[int | Tensor], list]) -> Equations:
    """Return equations with dropout before the recurrent map.

    With one mask m for all gates, the map is `recur(h * m)`. With one mask for each gate it is
    `[recur_1(h * m_1), recur_2(h * m_2), ...]`, where `recur_k` has the k-th part of the weights along their last axis.

    Args:
        equations: The cell's equations without this dropout.
        draw: `(batch_size) -> masks`, see `Dropped`.
    """

    def weights(batch_size: int | Tensor) -> Weights:
        inner = equations.weights(batch_size)
        return inner._replace(recurrent=Dropped(inner.recurrent, draw(batch_size)))

    def recur(hidden: Tensor, dropped: Dropped) -> Tensor:
        parts = [equations.recur(_drop(hidden, mask), own) for mask, own in _gates(dropped)]
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-1)

    inner_gradient = equations.recur_gradient
    gradient = None if inner_gradient is None else _gradient(inner_gradient)
    return equations._replace(weights=weights, recur=recur, recur_gradient=gradient, recurs_rows_apart=False)


def _gradient(inner: Callable[[Any], Callable[[Tensor], Tensor]]) -> Callable[[Any], Callable[[Tensor], Tensor]]:
    def recur_gradient(dropped: Dropped) -> Callable[[Tensor], Tensor]:
        gates = [(mask, inner(own)) for mask, own in _gates(dropped)]

        def to_hidden(d_recurrent: Tensor) -> Tensor:
            parts = ops.split(d_recurrent, len(gates), axis=-1) if len(gates) > 1 else [d_recurrent]
            terms = [backward(part) * mask for part, (mask, backward) in zip(parts, gates, strict=True)]
            return sum(terms[1:], terms[0])

        return to_hidden

    return recur_gradient


def _gates(dropped: Dropped) -> list[tuple[Tensor, Any]]:
    """Return a list of `(mask, recurrent weights)`: one pair for all gates, or one for each."""
    count = len(dropped.masks)
    if count == 1:
        return [(dropped.masks[0], dropped.weights)]
    parts = [ops.split(weights, count, axis=-1) for weights in tree.flatten(dropped.weights)]
    packed = [tree.pack_sequence_as(dropped.weights, list(part)) for part in zip(*parts, strict=True)]
    return list(zip(dropped.masks, packed, strict=True))


def _drop(hidden: Tensor, mask: Tensor) -> Tensor:
    """Multiply `hidden`, `(rows, ...)` or all steps of it `(time * rows, ...)`, by `mask` `(rows, ...)`."""
    dropped = ops.reshape(hidden, (-1, *ops.shape(mask))) * mask
    return ops.reshape(dropped, ops.shape(hidden))
