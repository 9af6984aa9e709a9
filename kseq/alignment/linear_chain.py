"""Checked inputs of the linear-chain algorithms: scores of tags, lengths, and scores of transitions between tags."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, known_value
from kseq.ids import check_lengths, integers, known_integers
from kseq.masking import mask_from_lengths
from kseq.padded_sizes import pad_unknown
from kseq.tag_schemes import AllowedTransitions

LEAST_TIME = 2  # the recursions read a first step and run a loop over one more or several


class Chain(NamedTuple):
    """A checked batch of sequences of scores, and the scores of transitions that they share.

    Attributes:
        scores: float32 `(batch, time, tags)`, unchanged in the padding; `time` is at least 2.
        lengths: int32 `(batch,)`; 0 in rows that are not usable.
        usable: bool `(batch,)`, False in rows whose length is outside of 0 to `time`.
        transitions: float32 `(tags, tags)`, from, to; -inf where forbidden.
        start: float32 `(tags,)`, -inf where forbidden.
        end: float32 `(tags,)`, -inf where forbidden.
    """

    scores: Tensor
    lengths: Tensor
    usable: Tensor
    transitions: Tensor
    start: Tensor
    end: Tensor


def make_chain(
    scores: Any, lengths: Any, transitions: Any, start: Any, end: Any, allowed: AllowedTransitions | None
) -> Chain:
    """Return the arguments as a `Chain`.

    Raises:
        ValueError: If shapes do not match, or if values are known (outside compiled graphs) and a length is out of
            range or a score is NaN or +inf.
    """
    scores, known = ops.convert_to_tensor(scores), known_integers(lengths, "lengths")
    lengths = integers(lengths, "lengths")
    tags = _tags(scores, lengths)
    if known is not None and scores.shape[1] is not None:
        check_lengths(known, scores.shape[1], "lengths", "scores")
    _check_finite("scores", scores, known)
    usable = ops.clip(lengths, 0, ops.shape(scores)[1]) == lengths
    given = {"transitions": (transitions, (tags, tags)), "start": (start, (tags,)), "end": (end, (tags,))}
    parameters = [
        _parameter(name, values, shape, permitted)
        for (name, (values, shape)), permitted in zip(given.items(), allowed or (None,) * 3, strict=True)
    ]
    scores = _with_time(ops.cast(scores, "float32"))
    return Chain(scores, ops.where(usable, lengths, 0), usable, *parameters)


def pad_unknown_sizes(chain: Chain) -> Chain:
    """Return the chain with padding where the number of rows or steps is known only when the graph runs.

    Rows that are padding have length 0.
    """
    scores = pad_unknown(pad_unknown(chain.scores, 1), 0)
    return chain._replace(scores=scores, lengths=pad_unknown(chain.lengths, 0), usable=pad_unknown(chain.usable, 0))


def inside_of(chain: Chain) -> Tensor:
    """Return bool `(batch, time)`, True at real steps."""
    return mask_from_lengths(chain.lengths, ops.shape(chain.scores)[1])


def _tags(scores: Tensor, lengths: Tensor) -> int:
    """Return the number of tags, or raise if the shapes of scores and lengths are wrong."""
    fits = len(scores.shape) == 3 and len(lengths.shape) == 1
    if not fits or (None not in (scores.shape[0], lengths.shape[0]) and scores.shape[0] != lengths.shape[0]):
        raise ValueError(
            f"The shapes are scores {tuple(scores.shape)} and lengths {tuple(lengths.shape)}; expected scores (batch, "
            "time, tags) and lengths (batch,), with the same batch size."
        )
    if not scores.shape[2]:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, but the number of tags must be known, and not 0.")
    return scores.shape[2]


def _parameter(name: str, values: Any, shape: tuple[int, ...], permitted: Any) -> Tensor:
    """Return scores of transitions, of the start or of the end, with -inf where they are not permitted."""
    if values is None:
        if name == "transitions":
            raise ValueError(
                "transitions is None, but a score is needed for each pair of tags: (tags, tags), from, to."
            )
        values = np.zeros(shape, "float32")
    values = ops.convert_to_tensor(values)
    if tuple(values.shape) != shape:
        raise ValueError(
            f"{name} has shape {tuple(values.shape)}, but the scores have {shape[0]} tags: expected {shape}"
            + (", from the first axis to the second." if len(shape) == 2 else ".")
        )
    values = ops.reshape(ops.cast(values, "float32"), shape)  # a tensor, not a variable
    _check_finite(name, values, None)
    if permitted is None:
        return values
    permitted = ops.convert_to_tensor(permitted)
    if tuple(permitted.shape) != shape or keras.backend.standardize_dtype(permitted.dtype) != "bool":
        raise ValueError(
            f"allowed.{name} has shape {tuple(permitted.shape)} and dtype {permitted.dtype}, but expected bool {shape}."
        )
    return ops.where(permitted, values, -np.inf)


def _check_finite(name: str, values: Tensor, lengths: np.ndarray | None) -> None:
    """Raise ValueError if a known value before the end of its row is NaN or +inf; -inf is a probability of zero."""
    known = known_value(values)
    if known is None or (lengths is None and len(known.shape) == 3):
        return
    odd = ~(known < np.inf)
    if lengths is not None:
        odd &= (np.arange(known.shape[1]) < lengths[:, None])[:, :, None]
    if odd.any():
        place = tuple(int(axis) for axis in np.argwhere(odd)[0])
        raise ValueError(f"{name}{list(place)} = {known[place]}. Check the learning rate and the inputs.")


def _with_time(scores: Tensor) -> Tensor:
    """Return `(batch, time, tags)` with padding up to the least time."""
    time = scores.shape[1]
    if time is not None and time >= LEAST_TIME:
        return scores
    missing = LEAST_TIME - time if time is not None else ops.maximum(LEAST_TIME - ops.shape(scores)[1], 0)
    return ops.pad(scores, [[0, 0], [0, missing], [0, 0]])
