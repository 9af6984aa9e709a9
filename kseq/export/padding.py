"""Checks of requests row by row, and their padding to a bounded number of shapes.

Both run in the graph, but outside the compiled function.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import tensorflow as tf

from kseq.export.row_errors import RowErrors, first_place
from kseq.export.windows import Windows
from kseq.models.export_contract import Inputs, RowInputs, StepInputs, lengths_names

TooLong = Literal["truncate", "error", "windows"]
Tensors = Mapping[str, tf.Tensor]


class Padding:
    """Checks the rows of a request, empties those that are refused, and pads sequences to buckets.

    All sequences are padded to the smallest bucket that holds the longest real row of any of them. Columns beyond it
    are dropped first: TensorFlow Serving's batching adds such columns, and pads with the first element of a tensor.

    Args:
        inputs: The model's inputs.
        buckets: Increasing lengths.
        too_long: Treatment of rows longer than the largest bucket: "truncate" keeps their first steps, except in inputs
            that may not be cut, see `StepInputs`; "error" refuses the row; "windows" pads to a number of whole windows
            of the largest bucket, see `Windows`. Inner sequences, such as the characters of words, are then cut.

    Call arguments:
        tensors: The model's inputs and their lengths by name. A tensor of lengths without elements means that all rows
            have the full length, and one of optional `RowInputs` that all have the default. The others have the same
            number of rows.
        errors: string `(batch,)`, empty for rows without an error so far.

    Returns:
        `(tensors, errors)`. A refused row has length 0, padding in place of its steps, and the default of `RowInputs`.
    """

    def __init__(self, inputs: Inputs, buckets: Sequence[int], too_long: TooLong):
        self.rows = {name: of for name, of in inputs.items() if isinstance(of, RowInputs)}
        self.steps = {name: of for name, of in inputs.items() if isinstance(of, StepInputs)}
        self.optional = {name: of for name, of in self.rows.items() if of.optional}
        self.lengths_names = lengths_names(inputs)
        self.buckets, self.too_long = buckets, too_long
        self.windows = Windows(inputs, buckets[-1], len(buckets) == 1) if too_long == "windows" else None

    def __call__(self, tensors: Tensors, errors: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Check and pad a request."""
        tensors = self._with_defaults(tensors)
        plain = {name: of for name, of in self.steps.items() if of.steps_of is None}
        values = {name: tensors[name] for name in (*self.steps, *self.rows)}
        lengths = {}
        for name, of in plain.items():
            whose = of.lengths_of or name
            lengths[name] = _full_lengths(tensors[self.lengths_names[name]], values[whose], 1)
        found = RowErrors(errors)
        for name in plain:
            self._check_lengths(name, lengths[name], tf.shape(values[name])[1], found)
        limits = {name: self._limit(values[name], 1) for name in lengths}
        if self.windows is not None:
            limits = {name: tf.shape(values[name])[1] for name in lengths}
        lengths = {name: tf.clip_by_value(of, 0, limits[name]) for name, of in lengths.items()}
        for name, of in self.rows.items():
            values[name] = check_shape(name, values[name], of, found)
            check_range(name, values[name], of, found)
        lengths = _without_rows(found.bad, lengths)
        for name, of in plain.items():
            values[name] = values[name][:, : _longest(lengths[name])]
            check_steps(name, values[name], lengths[name], of, found)
        for name, of in self.steps.items():
            if of.steps_of is not None:
                given = _full_lengths(tensors[self.lengths_names[name]], values[name], 2)
                values[name], lengths[name] = self._inner(name, values[name], given, lengths[of.steps_of], found)
        lengths = _without_rows(found.bad, lengths)
        padded = self._padded(values, lengths)
        for name, of in self.rows.items():
            padded[name] = tf.where(_like(found.bad, values[name]), tf.cast(of.default, of.dtype), values[name])
        return {**padded, **{self.lengths_names[name]: of for name, of in lengths.items()}}, found.texts()

    def _with_defaults(self, tensors: Tensors) -> Tensors:
        """Return the tensors with the default in all rows of those that are left out."""
        first = next(name for name in (*self.steps, *self.rows) if name not in self.optional)
        rows, filled = tf.shape(tensors[first])[0], dict(tensors)
        for name, of in self.optional.items():
            missing = rows - tf.shape(filled[name])[0]
            filled[name] = tf.concat([filled[name], tf.fill([missing], tf.cast(of.default, of.dtype))], axis=0)
        return filled

    def _limit(self, values: tf.Tensor, axis: int) -> tf.Tensor:
        return tf.minimum(tf.shape(values)[axis], self.buckets[-1])

    def _check_lengths(self, name: str, lengths: tf.Tensor, time: tf.Tensor, found: RowErrors) -> None:
        told, largest, of = self.lengths_names[name], self.buckets[-1], self.steps[name]
        found.add(lengths < 0, lambda: [f"{told} is ", lengths, ", but a length is at least 0."])
        more = f", but {name} has fewer steps. A length is the number of a row's real steps."
        found.add(lengths > time, lambda: [f"{told} is ", lengths, more])
        if of.fewest:
            few = f" steps in {name}, but this model needs at least {of.fewest}."
            found.add(lengths < of.fewest, lambda: ["The row has ", lengths, few])
        if self.windows is None and not of.is_cut(name, self.too_long):
            most = f" steps in {name}, but this model takes at most {largest}. Shorten the row."
            found.add(lengths > largest, lambda: ["The row has ", lengths, most])

    def _inner(
        self, name: str, values: tf.Tensor, given: tf.Tensor, outer: tf.Tensor, found: RowErrors
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Check a sequence of sequences; return it and its lengths `(batch, time)`, zero beyond the outer length."""
        of, told, largest = self.steps[name], self.lengths_names[name], self.buckets[-1]
        short = (outer > tf.shape(values)[1]) | (outer > tf.shape(given)[1])
        each = f"{name} and {told} must have a sequence for each of the "
        found.add(short, lambda: [each, outer, f" {of.steps_of}."])
        steps = _longest(outer)
        values, inner = _resized(values, 1, steps), _resized(given, 1, steps)
        inner = tf.where(tf.sequence_mask(outer, steps), inner, 0)
        wrong, long = (inner < 0) | (inner > tf.shape(values)[2]), inner > largest
        text = f", but a length is at least 0 and at most the number of steps of {name}."
        found.add(tf.reduce_any(wrong, axis=1), lambda: _at(f"{told}[", wrong, inner, "] is ", text))
        if not of.is_cut(name, self.too_long):
            most = f" steps, but this model takes at most {largest}."
            found.add(tf.reduce_any(long, axis=1), lambda: _at(f"{name}[", long, inner, "] has ", most))
        lengths = tf.clip_by_value(inner, 0, self._limit(values, 2))
        values = values[:, :, : _longest(lengths)]
        check_steps(name, values, lengths, of, found)
        return values, lengths

    def _padded(self, values: Tensors, lengths: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return the sequences padded to buckets, with the padding value beyond each length."""
        longest = tf.constant(0)
        for name, of in self.steps.items():
            longest = longest if of.steps_of else tf.maximum(longest, _longest(lengths[name]))
        bucket, padded = self._bucket(tf.minimum(longest, self.buckets[-1])), {}
        if self.windows is not None:
            bucket = tf.where(longest > self.buckets[-1], self.windows.padded(longest), bucket)
        for name, of in self.steps.items():
            tensor, real = _resized(values[name], 1, bucket), lengths[name]
            width = bucket
            if of.steps_of is not None:
                width, real = self._bucket(_longest(real)), _resized(real, 1, bucket)
                lengths[name] = real
                tensor = _resized(tensor, 2, width)
            mask = tf.sequence_mask(real, width)
            tensor = tf.where(_like(mask, tensor), tensor, tf.cast(of.pad_value, tensor.dtype))
            # A model with a fixed number of steps needs it as a static shape.
            time = self.buckets[0] if len(self.buckets) == 1 and self.windows is None else None
            padded[name] = tf.ensure_shape(tensor, [None, *[time] * (of.axes - 1), *of.step_shape])
        return padded

    def _bucket(self, longest: tf.Tensor) -> tf.Tensor:
        buckets = tf.constant(self.buckets)
        return tf.reduce_min(tf.boolean_mask(buckets, buckets >= longest))


def check_steps(name: str, values: tf.Tensor, lengths: tf.Tensor, inputs: StepInputs, found: RowErrors) -> None:
    """Refuse rows that have an id outside the vocabulary, NaN or infinity in a real step, or another reason.

    Args:
        name: The input's name.
        values: `(batch, time, ...)`, or `(batch, time, inner time, ...)`.
        lengths: int `(batch,)`, or `(batch, time)`.
        inputs: What is known of the input.
        found: Gets the rows.
    """
    for sentence, applies in inputs.refusals:
        found.add(applies(values, lengths), lambda sentence=sentence: [sentence])
    size = inputs.vocabulary_size
    if size is not None:
        wrong, text = (values < 0) | (values >= size), f", but the ids of the model's vocabulary are 0 to {size - 1}."
    elif values.dtype.is_floating:
        wrong, text = wrong_numbers(values, inputs)
    else:
        return
    wrong &= _like(tf.sequence_mask(lengths, tf.shape(values)[lengths.shape.rank]), values)

    def reason() -> list[str | tf.Tensor]:
        _, place, value = first_place(_flat(wrong), _flat(values))
        places: list[str | tf.Tensor] = []
        for axis in range(values.shape.rank - 1, 0, -1):
            width = tf.maximum(tf.shape(values)[axis], 1)
            places[:0] = [tf.math.floormod(place, width), ", "]
            place = tf.math.floordiv(place, width)
        return [f"{name}[", *places[:-1], "] is ", value, text]

    found.add(tf.reduce_any(wrong, axis=range(1, values.shape.rank)), reason)


def check_shape(name: str, values: tf.Tensor, inputs: RowInputs, found: RowErrors) -> tf.Tensor:
    """Return the values of a `RowInputs`; those of another size than its shape are refused, and replaced by others.

    A server passes on a tensor of any size, which a model may answer all the same.
    """
    shape = inputs.shape
    if all(size is None for size in shape):
        return values
    given = tf.shape(values)
    expected = tf.stack([given[axis + 1] if size is None else tf.constant(size) for axis, size in enumerate(shape)])
    same = tf.reduce_all(given[1:] == expected)
    shown = tf.strings.reduce_join(tf.strings.as_string(given[1:]), separator=", ")
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    text = f"], but this model reads arrays of shape [{sizes}]."
    found.add(tf.fill(given[:1], ~same), lambda: [f"{name} has shape [", tf.fill(given[:1], shown), text])
    zeros = tf.zeros(tf.concat([given[:1], expected], axis=0), values.dtype)
    return tf.ensure_shape(tf.cond(same, lambda: values, lambda: zeros), [None, *shape])


def wrong_numbers(values: tf.Tensor, inputs: StepInputs) -> tuple[tf.Tensor, str]:
    """Return which of `values` are not allowed, bool of their shape, and the end of a reason: what they must be."""
    wrong, limits = tf.logical_not(tf.math.is_finite(values)), []
    if inputs.lowest is not None:
        wrong, limits = wrong | (values < inputs.lowest), [f"at least {inputs.lowest:g}"]
    if inputs.highest is not None:
        wrong, limits = wrong | (values > inputs.highest), [*limits, f"at most {inputs.highest:g}"]
    if inputs.whole:
        wrong, limits = wrong | (tf.round(values) != values), [*limits, "whole numbers"]
    if inputs.may_be_nan:
        wrong = tf.logical_and(wrong, tf.logical_not(tf.math.is_nan(values)))
    return wrong, f", but the values of real steps must be {' and '.join(limits) or 'finite'}."


def check_range(name: str, values: tf.Tensor, inputs: RowInputs, found: RowErrors) -> None:
    """Refuse rows that have a value out of range, NaN or infinity in a `RowInputs`."""
    limits = {"least": inputs.lowest, "most": inputs.highest}
    limits = {side: limit for side, limit in limits.items() if limit is not None}
    if not (values.dtype.is_floating or limits):
        return
    wrong = ~tf.math.is_finite(values) if values.dtype.is_floating else tf.zeros_like(values, tf.bool)
    for side, limit in limits.items():
        limit = tf.cast(limit, values.dtype)
        wrong |= values < limit if side == "least" else values > limit
    expected = " and ".join(f"at {side} {limit}" for side, limit in limits.items()) or "finite"

    def reason() -> list[str | tf.Tensor]:
        value = first_place(_flat(wrong), _flat(values))[2]
        return [f"{name} is ", value, f", but it must be {expected}."]

    found.add(tf.reduce_any(wrong, axis=range(1, values.shape.rank)), reason)


def _at(begin: str, wrong: tf.Tensor, values: tf.Tensor, verb: str, end: str) -> list[str | tf.Tensor]:
    """Return the parts of a reason that names the first wrong one of `values` `(batch, n)`."""
    _, place, value = first_place(wrong, values)
    return [begin, place, verb, value, end]


def _flat(values: tf.Tensor) -> tf.Tensor:
    """Return `values` `(batch, ...)` as `(batch, n)`; -1 would be ambiguous in an empty batch."""
    return tf.reshape(values, [tf.shape(values)[0], tf.reduce_prod(tf.shape(values)[1:])])


def _full_lengths(lengths: tf.Tensor, values: tf.Tensor, axes: int) -> tf.Tensor:
    """Return `lengths`, or the number of steps of all rows if there are no lengths."""
    missing = tf.maximum(tf.shape(values)[:axes] - tf.shape(lengths), 0)
    missing = tf.where(tf.size(lengths) == 0, missing, 0)
    paddings = tf.stack([tf.zeros_like(missing), missing], axis=1)
    return tf.pad(lengths, paddings, constant_values=tf.shape(values)[axes])


def _without_rows(bad: tf.Tensor, lengths: Tensors) -> dict[str, tf.Tensor]:
    """Return lengths of 0 for the rows `bad`."""
    return {name: tf.where(_like(bad, of), 0, of) for name, of in lengths.items()}


def _longest(lengths: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(tf.concat([tf.reshape(lengths, [-1]), [0]], axis=0))


def _like(mask: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """Return `mask` with trailing axes of length 1, up to the rank of `values`."""
    return tf.reshape(mask, tf.concat([tf.shape(mask), [1] * (values.shape.rank - mask.shape.rank)], axis=0))


def _resized(values: tf.Tensor, axis: int, size: Any) -> tf.Tensor:
    """Return `values` cut, or padded with zeros, to `size` along `axis`."""
    index = (slice(None),) * axis
    values = values[(*index, slice(0, size))]
    missing = [[0, 0] for _ in range(values.shape.rank)]
    missing[axis] = [0, size - tf.shape(values)[axis]]
    return tf.pad(values, tf.convert_to_tensor(missing))


def in_batches(
    function: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]],
    tensors: Tensors,
    batch_sizes: Sequence[int],
    *,
    smaller: bool = False,
) -> dict[str, tf.Tensor]:
    """Call `function(tensors)` on batches of the given sizes only, and concatenate the answers.

    Rows of zeros complete a batch to the smallest size that holds it; a batch above the largest size is split into
    batches of that size. So `function` gets at most as many shapes as there are sizes.

    Args:
        function: Takes tensors `(size, ...)` by name; returns a dict of tensors `(size, ...)`.
        tensors: Tensors `(batch, ...)` by name.
        batch_sizes: Increasing sizes.
        smaller: Whether batches of any size below the largest one are passed on as they are, for functions that are
            not compiled.

    Returns:
        The dict of tensors `(batch, ...)`.
    """
    batch = tf.shape(next(iter(tensors.values())))[0]
    sizes = tf.constant(batch_sizes)
    size = tf.minimum(batch, batch_sizes[-1])
    size = tf.maximum(size, 1) if smaller else tf.reduce_min(tf.boolean_mask(sizes, sizes >= size))
    chunks = tf.maximum((batch + size - 1) // size, 1)

    def in_chunks(values: tf.Tensor) -> tf.Tensor:
        values = _resized(values, 0, chunks * size)
        shape = tf.concat([[chunks, size], tf.shape(values)[1:]], axis=0)
        return tf.ensure_shape(tf.reshape(values, shape), [None, None, *values.shape[1:]])

    chunked = {name: in_chunks(values) for name, values in tensors.items()}

    # The first chunk runs before the loop, which needs the outputs' shapes; most requests are a single chunk.
    def run_chunk(chunk: tf.Tensor, outputs: dict[str, tf.Tensor]) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        more = function({name: values[chunk] for name, values in chunked.items()})
        return chunk + 1, {name: tf.concat([outputs[name], more[name]], axis=0) for name in outputs}

    outputs = function({name: values[0] for name, values in chunked.items()})
    shapes = {name: tf.TensorShape([None, *value.shape[1:]]) for name, value in outputs.items()}
    _, outputs = tf.while_loop(
        lambda chunk, _: chunk < chunks,
        run_chunk,
        (tf.constant(1), outputs),
        shape_invariants=(tf.TensorShape([]), shapes),
    )
    return {name: value[:batch] for name, value in outputs.items()}
