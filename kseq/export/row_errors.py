"""Reasons why rows of a request are refused, and the answers of such rows.

A server puts requests of several clients into one batch. So a bad row must not fail the batch: it is replaced by an
empty row before the model, its answer is blanked after the model, and its reason is in the output `error`. A reason
names values of the row alone, never those of another row.
"""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

ERROR = "error"


def no_errors(rows: tf.Tensor) -> tf.Tensor:
    """Return empty reasons, string `(batch,)`, for a tensor `(batch, ...)`."""
    return tf.fill(tf.shape(rows)[:1], "")


def add_error(errors: tf.Tensor, bad: tf.Tensor, *reason: str | tf.Tensor) -> tf.Tensor:
    """Return `errors` with a reason for each row that is bad and has none yet.

    Args:
        errors: string `(batch,)`.
        bad: bool `(batch,)`.
        *reason: Parts of the reason: texts, and tensors `(batch,)` of strings or numbers.
    """
    parts = [part if isinstance(part, str) else _as_text(part) for part in reason]
    return tf.where(bad & (errors == ""), tf.strings.join(parts), errors)


def first_place(outside: tf.Tensor, *values: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Return whether a row of `outside` has a True, where the first one is, and the values there.

    Args:
        outside: bool `(batch, n)`.
        *values: `(batch, n)` each.

    Returns:
        `(bad, place, *values)`, each `(batch,)`.
    """
    # An additional column, so that there is a place if there are no others.
    place = tf.argmax(tf.pad(tf.cast(outside, tf.int32), [[0, 0], [0, 1]]), axis=1, output_type=tf.int32)
    there = (tf.gather(tf.pad(value, [[0, 0], [0, 1]]), place, axis=1, batch_dims=1) for value in values)
    return tf.reduce_any(outside, axis=1), place, *there


class RowErrors:
    """Collects which rows of a request are refused; the reasons are only written if there is such a row.

    Args:
        errors: Reasons known so far, string `(batch,)`, empty for other rows.

    Attributes:
        bad: bool `(batch,)`, the rows that are refused.
    """

    def __init__(self, errors: tf.Tensor):
        self.bad = errors != ""
        self._errors = errors
        self._checks: list[tuple[tf.Tensor, Callable[[], Sequence[str | tf.Tensor]]]] = []

    def add(self, bad: tf.Tensor, reason: Callable[[], Sequence[str | tf.Tensor]]) -> None:
        """Refuse the rows `bad`, bool `(batch,)`; the function returns the parts of the reason, see `add_error`."""
        self._checks.append((bad, reason))
        self.bad |= bad

    def texts(self) -> tf.Tensor:
        """Return the reasons, string `(batch,)`; the first one of rows with several."""

        def written() -> tf.Tensor:
            errors = self._errors
            for bad, reason in self._checks:
                errors = add_error(errors, bad, *reason())
            return errors

        return tf.cond(tf.reduce_any(self.bad), written, lambda: self._errors)


def blank_rows(outputs: Mapping[str, tf.Tensor], errors: tf.Tensor, padding: Mapping[str, int]) -> dict[str, tf.Tensor]:
    """Return `outputs` with empty answers in the rows that have an error, and the output `error`.

    An empty answer is NaN in floats, "" in strings, False in booleans, and in integers `padding[NAME]` or 0. A row
    whose answer contains NaN gets an error.

    Args:
        outputs: Tensors `(batch, ...)` by name.
        errors: string `(batch,)`.
        padding: Values of int outputs in rows with an error, by name.
    """
    if ERROR in outputs:
        raise ValueError(f"The model answers with {sorted(outputs)}, but the export adds {ERROR!r}. Rename the output.")
    found = RowErrors(errors)
    for name, value in outputs.items():
        if value.dtype.is_floating:
            odd = tf.reduce_any(tf.math.is_nan(value), axis=range(1, value.shape.rank or 1))
            found.add(odd, lambda name=name: [f"The model's answer to this row has NaN in {name}."])
    outputs = {name: tf.identity(value) for name, value in outputs.items()}

    def blank() -> dict[str, tf.Tensor]:
        return {name: _where_row(found.bad, _empty(of, padding.get(name, 0)), of) for name, of in outputs.items()}

    blanked = tf.cond(tf.reduce_any(found.bad), blank, lambda: outputs)
    answer = {name: tf.ensure_shape(value, outputs[name].shape) for name, value in blanked.items()}
    return {**answer, ERROR: found.texts()}


def _where_row(rows: tf.Tensor, chosen: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    shape = tf.concat([tf.shape(rows), tf.ones(tf.rank(others) - 1, tf.int32)], axis=0)
    return tf.where(tf.reshape(rows, shape), chosen, others)


def _empty(value: tf.Tensor, padding: int) -> tf.Tensor:
    if value.dtype == tf.string:
        return tf.constant("")
    if value.dtype == tf.bool:
        return tf.constant(False)
    return tf.cast(float("nan") if value.dtype.is_floating else padding, value.dtype)


def _as_text(value: tf.Tensor) -> tf.Tensor:
    if value.dtype == tf.string:
        return value
    return tf.strings.as_string(value, shortest=value.dtype.is_floating)
