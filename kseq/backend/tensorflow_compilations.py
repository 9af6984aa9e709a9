"""The number of shapes for which XLA has compiled parts of graphs."""

import sys

import tensorflow as tf

MANY = 100  # shapes, after which a warning is printed, and again whenever their number has doubled
WARNING = (
    "kseq: XLA has compiled parts of models for",
    "shapes in this process, each of which takes time and memory. There are fewer with batches of few sizes, see "
    "kseq.training.bucket_by_length, and none with kseq.config.set_jit_compile(False).",
)
FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)  # odd, for hashes of 64 bits

_known: set[int] = set()  # the numbers of the compiled functions all of whose sizes are known while graphs are built


def count_shapes(function: int, tensors: list[tf.Tensor]) -> None:
    """Count the shapes of the arguments of a compiled function, if it has not had them before.

    Sizes that are unknown while the graph is built are counted when it runs.

    Args:
        function: A number of the function.
        tensors: Its arguments.
    """
    sizes = [tf.shape(x, "int64")[axis] for x in tensors for axis, size in enumerate(x.shape) if size is None]
    if sizes:
        factors = [_signed((each + 1) * FACTORS[each % 3]) for each in range(len(sizes))]
        key = tf.reduce_sum(tf.stack(sizes) * factors) + _signed(function * FACTORS[0])
        known = tf.raw_ops.LookupTableFindV2(table_handle=_table(), keys=key, default_value=tf.constant(0, "int64"))
        tf.cond(known > 0, lambda: False, lambda: _add(key))
    elif function not in _known:
        _known.add(function)
        with tf.init_scope():
            _warn_of(tf.cast(compilations(), "int64"))


def compilations() -> int:
    """Return the number of shapes that have been counted."""
    with tf.init_scope():
        return len(_known) + int(tf.raw_ops.LookupTableSizeV2(table_handle=_table()))


def _table() -> tf.Tensor:
    """Return the table of the shapes that were counted when graphs ran, found by its name: graphs may be saved."""
    return tf.raw_ops.MutableHashTableV2(
        key_dtype="int64", value_dtype="int64", shared_name="kseq_shapes_of_compiled_parts"
    )


def _add(key: tf.Tensor) -> tf.Tensor:
    table = _table()
    insert = tf.raw_ops.LookupTableInsertV2(table_handle=table, keys=key, values=tf.constant(1, "int64"))
    with tf.control_dependencies([insert]):
        _warn_of(tf.raw_ops.LookupTableSizeV2(table_handle=table) + len(_known))
    return tf.constant(True)


def _warn_of(count: tf.Tensor) -> None:
    many = tf.reduce_any(count == [MANY << times for times in range(20)])
    tf.cond(many, lambda: _print(count), lambda: False)


def _print(count: tf.Tensor) -> tf.Tensor:
    tf.print(WARNING[0], count, WARNING[1], output_stream=sys.stderr)
    return tf.constant(True)


def _signed(value: int) -> int:
    """Return the int64 with the last 64 bits of a number."""
    value %= 1 << 64
    return value - (1 << 64) if value >= 1 << 63 else value
