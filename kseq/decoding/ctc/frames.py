"""Input and output of CTC's decoders: checked logits, the best symbols of all frames, and strings without gaps."""

from typing import Any, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor, known_value, scan
from kseq.decoding.checks import shapes_fit
from kseq.decoding.ctc.prefix_beam import Frame, pick
from kseq.decoding.decoding import LOG_ZERO
from kseq.masking import mask_from_lengths
from kseq.numbers import whole
from kseq.padded_sizes import FRAMES, pad_unknown

LARGEST_INDEX = 2**31 - 1


class Written(NamedTuple):
    """Strings of symbols, and the frames of the symbols.

    Attributes:
        tokens: int32 `(batch, n, time)`, -1 after the end.
        lengths: int32 `(batch, n)`.
        frames: int32 `(batch, n, time)`, the frame of each symbol, -1 after the end.
    """

    tokens: Tensor
    lengths: Tensor
    frames: Tensor


class Rows(NamedTuple):
    """Checked input.

    Attributes:
        blank: The class of the blank, 0 or more; None if there is none.
        logits: Float `(batch, time, classes)`, `time` 1 or more if it is static.
        real: bool `(batch, time)`, the frames before each row's length.
        normalizer: float32 `(batch, time)`, log of the sum of exp of a frame's logits.
        valid: bool `(batch,)`, whether the probabilities of all real frames are numbers.
    """

    blank: Any
    logits: Tensor
    real: Tensor
    normalizer: Tensor
    valid: Tensor


def read_rows(logits: Tensor, logit_lengths: Tensor, blank_index: int | None) -> Rows:
    """Return the checked input of a decoder: shapes are checked when tracing, values where they are known.

    Raises:
        ValueError: If a shape or the blank is wrong, or, outside compiled functions, a length or a logit.
    """
    logits, lengths = ops.convert_to_tensor(logits), ops.convert_to_tensor(logit_lengths)
    _check_shapes(logits, lengths)
    blank = None if blank_index is None else blank_class(blank_index, logits.shape[2])
    _check_lengths(lengths, logits.shape[1])
    lengths = ops.cast(lengths, "int32")
    if logits.shape[1] == 0:
        logits = ops.zeros((ops.shape(logits)[0], 1, logits.shape[2]), dtype=logits.dtype)
        lengths = ops.zeros_like(lengths)
    real = mask_from_lengths(lengths, ops.shape(logits)[1])
    normalizer = ops.logsumexp(ops.cast(logits, "float32"), axis=-1)
    bad = ops.logical_and(real, ops.logical_not(ops.isfinite(normalizer)))
    _check_finite(bad)
    return Rows(blank, logits, real, normalizer, valid=ops.logical_not(ops.any(bad, axis=1)))


def padded_rows(rows: Rows) -> Rows:
    """Return the rows with padding where their number, or that of frames, is known only when the graph runs."""
    padded = rows._replace(
        **{name: pad_unknown(getattr(rows, name), 1, FRAMES) for name in ("logits", "real", "normalizer")},
    )
    return Rows(rows.blank, *(pad_unknown(each, 0) for each in padded[1:]))


def blank_class(blank_index: int, classes: int) -> int:
    """Return the class of a blank that may be counted from the last class, -1 being the last.

    Raises:
        ValueError: If there is no such class.
    """
    blank_index = whole("blank_index", blank_index)
    if not -classes <= blank_index < classes:
        raise ValueError(
            f"blank_index={blank_index} is outside the {classes} classes of the logits: it must be between 0 and "
            f"{classes - 1}, or negative to count from the last class, -1."
        )
    return blank_index % classes


def frames_of(rows: Rows, count: int, *, ranked: bool) -> Frame:
    """Return the frames of the input, time first.

    Args:
        rows: The input.
        count: How many symbols of a frame may extend a prefix.
        ranked: Whether they must be sorted, the most probable first, even if `count` takes in all symbols.
    """
    batch, time, classes = ops.shape(rows.logits)
    if ranked or count < classes - 1:
        values, symbols = _best_symbols(rows.logits, rows.blank, count)
    else:
        values, symbols = _all_symbols(rows.logits, rows.blank)
    real = rows.real

    def log_probability(logits: Tensor) -> Tensor:
        shape = (..., *([None] * (len(logits.shape) - 2)))
        values = ops.maximum(ops.cast(logits, "float32") - rows.normalizer[shape], LOG_ZERO)
        return ops.where(real[shape], values, LOG_ZERO)

    start = ops.arange(batch, dtype="int32")[:, None] * time + ops.arange(time, dtype="int32")
    frame = Frame(
        real=real,
        blank=log_probability(rows.logits[:, :, rows.blank]),
        values=log_probability(values),
        symbols=symbols,
        start=start * classes,
        normalizer=rows.normalizer,
    )
    return Frame(*(ops.transpose(x, (1, 0, *range(2, len(x.shape)))) for x in frame))


def _best_symbols(logits: Tensor, blank_index: int, count: int) -> tuple[Tensor, Tensor]:
    """Return logits and classes of each frame's `count` best symbols, `(batch, time, count)`."""
    batch, time, classes = ops.shape(logits)
    flat = ops.cast(ops.reshape(logits, (batch * time, classes)), "float32")
    values, symbols = ops.top_k(flat, count + 1)  # one more, as the blank may be among them
    symbols = ops.cast(symbols, "int32")
    # Symbols after the blank move up by one. Looked up, not sliced: XLA turns a top_k that is sliced into a sort.
    is_blank = ops.cast(symbols == blank_index, "int32")
    place = ops.arange(count, dtype="int32") + ops.cumsum(is_blank, axis=1)[:, :count]  # (batch * time, count)
    return tuple(ops.reshape(pick(x, place), (batch, time, count)) for x in (values, symbols))


def _all_symbols(logits: Tensor, blank_index: int) -> tuple[Tensor, Tensor]:
    """Return logits and classes of all symbols in the order of the classes, `(batch, time, classes - 1)`."""
    place = ops.arange(logits.shape[2] - 1, dtype="int32")
    symbols = ops.where(place < blank_index, place, place + 1)
    values = ops.concatenate([logits[:, :, :blank_index], logits[:, :, blank_index + 1 :]], axis=2)
    return values, ops.broadcast_to(symbols, ops.shape(values))


def read_back(origins: Tensor, places: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the symbols that prefixes wrote in each frame, and the places where they began.

    Args:
        origins: int32 `(time, batch, beam)` of `PrefixBeam.advance`.
        places: int32 `(batch, n)` in the beam after the last frame.
        classes: The number of classes.

    Returns:
        `(written, places)`: written int32 `(batch, n, time)`, -1 for nothing; places int32 `(batch, n)` in the beam
        before the first frame.
    """

    def back(places: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
        origin = pick(origins, places)
        return origin // (classes + 1), origin % (classes + 1) - 1

    places, written = scan(back, places, origins, reverse=True, fetch_ahead=True)  # written (time, batch, n)
    return ops.transpose(written, (1, 2, 0)), places


def write(tokens: Tensor, first: Tensor | int = 0) -> Written:
    """Return strings without the gaps between their symbols.

    Args:
        tokens: int32 `(batch, n, time)`, a symbol at its frame, -1 elsewhere.
        first: int32 `(batch,)`, the number of the first frame.
    """
    batch, n, time = ops.shape(tokens)
    there = ops.cast(tokens >= 0, "int32")
    places = ops.where(tokens >= 0, ops.cumsum(there, axis=-1) - 1, time)  # (batch, n, time)
    rows = ops.arange(batch * n, dtype="int32")[:, None] * (time + 1)
    places = ops.reshape(ops.reshape(places, (batch * n, time)) + rows, (-1, 1))
    frames = ops.arange(time, dtype="int32") + ops.reshape(ops.convert_to_tensor(first, dtype="int32"), (-1, 1, 1))

    def gather(values: Tensor) -> Tensor:
        values = ops.reshape(ops.broadcast_to(values + 1, (batch, n, time)), (-1,))
        flat = ops.scatter(places, ops.where(ops.reshape(tokens, (-1,)) >= 0, values, 0), (batch * n * (time + 1),))
        return ops.reshape(flat, (batch, n, time + 1))[:, :, :-1] - 1

    return Written(gather(tokens), ops.sum(there, axis=-1), gather(frames))


def _check_shapes(logits: Tensor, lengths: Tensor) -> None:
    shape = tuple(logits.shape)
    floating = keras.backend.is_float_dtype(keras.backend.standardize_dtype(logits.dtype))
    if len(shape) != 3 or shape[2] is None or not floating:
        raise ValueError(
            "CTC decoding needs float logits of shape (batch, time, classes), with a static number of classes, but got "
            f"{keras.backend.standardize_dtype(logits.dtype)} of shape {shape}. They are the network's output before "
            "any softmax, the batch first."
        )
    whole = keras.backend.is_int_dtype(keras.backend.standardize_dtype(lengths.dtype))
    if not whole or not shapes_fit(lengths.shape, shape[:1]):
        raise ValueError(
            f"logit_lengths must be integers of shape (batch,) = ({shape[0]},), but they are "
            f"{keras.backend.standardize_dtype(lengths.dtype)} of shape {tuple(lengths.shape)}. Without padding, give "
            "the number of frames to every row."
        )
    if None not in shape and shape[0] * shape[1] * shape[2] > LARGEST_INDEX:
        raise ValueError(
            f"The logits have {shape[0] * shape[1] * shape[2]} values, shape {shape}, and at most {LARGEST_INDEX} can "
            "be decoded at once. Decode fewer rows at a time."
        )


def _check_lengths(lengths: Tensor, time: int | None) -> None:
    known = known_value(lengths)
    if known is None or time is None:
        return
    for row in range(len(known)):
        if not 0 <= known[row] <= time:
            raise ValueError(
                f"logit_lengths[{row}]={known[row]} does not fit logits of {time} frames. A length counts the frames "
                f"of its row, so it is between 0 and {time}; if the network subsamples in time, divide the lengths too."
            )


def _check_finite(bad: Tensor) -> None:
    known = known_value(bad)
    if known is not None and known.any():
        row, frame = (int(x) for x in next(zip(*known.nonzero(), strict=True)))
        raise ValueError(
            f"Row {row} has logits in frame {frame} that are no probabilities: NaN, infinity, or all of them minus "
            "infinity. Look for the cause in the network or its input."
        )
