"""Helpers for tests on both backends: compilation and gradients."""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops, tree

BACKEND = keras.backend.backend()
# For tests with Keras's own recurrent layers, which warn from Keras 3.16 on when they get a mask.
keras_may_lose_masks = pytest.mark.filterwarnings("ignore:.*does not support masking")


def compiled(function: Callable) -> Callable:
    """Compile a function with XLA."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True, autograph=False)  # the conversion takes most of the time
    import jax

    return jax.jit(function)


def traced(function: Callable) -> Callable:
    """Return a function as a graph, in which no values are known; on TensorFlow without XLA, which compiles slowly."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    return compiled(function)


def compiled_functions(graph: Any) -> list[str]:
    """Return the names of the functions that XLA compiles by themselves in the graph of TensorFlow's function."""
    definition = graph.graph.as_graph_def()
    functions = getattr(definition, "library").function  # noqa: B009
    return sorted(each.signature.name for each in functions if each.attr["_XlaMustCompile"].b)


def operations_not_of_tensorflow(graph: Any) -> set[str]:
    """Return the operations of a graph and its functions that TensorFlow itself does not have."""
    import tensorflow as tf

    definition = graph.as_graph_def()
    functions = getattr(definition, "library").function  # noqa: B009
    used = {node.op for node in definition.node} | {node.op for each in functions for node in each.node_def}
    own = {each.signature.name for each in functions}
    return {operation for operation in used - own if not hasattr(tf.raw_ops, operation)}


def gradient(function: Callable, *arrays: Any) -> list[np.ndarray]:
    """Return the gradients of a scalar function of arrays with respect to each of them."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensors = [tf.convert_to_tensor(array) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(*tensors)
        return [np.asarray(g) for g in tape.gradient(value, tensors, unconnected_gradients="zero")]
    import jax

    tensors = [jax.numpy.asarray(array) for array in arrays]
    return [np.asarray(g) for g in _gradients_on_jax(function, len(tensors))(*tensors)]


@functools.lru_cache(maxsize=4)  # a test may ask for gradients of one function at several points
def _gradients_on_jax(function: Callable, count: int) -> Callable:
    import jax

    return jax.jit(jax.grad(function, argnums=tuple(range(count))))


def outputs_and_gradients(layer: Any, inputs: np.ndarray, *, seed: int = 0, **call: Any) -> tuple[list, list]:
    """Return a layer's flat outputs and the gradients of their randomly weighted sum: for inputs, then weights."""

    def weighted(outputs: list) -> Any:
        random = np.random.default_rng(seed)
        precision = "float64" if np.asarray(inputs).dtype == np.float64 else "float32"
        return sum(ops.sum(ops.cast(o, precision) * random.normal(size=o.shape).astype("float32")) for o in outputs)

    _keep_masks(layer)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensor = tf.convert_to_tensor(inputs)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            outputs = tree.flatten(layer(tensor, **call))
            total = weighted(outputs)
        gradients = tape.gradient(total, [tensor, *layer.trainable_weights])
    else:
        import jax

        def function(tensor: Any, weights: list) -> tuple[Any, list]:
            # Not stateless_call: it skips the casts of mixed precision.
            with keras.StatelessScope(state_mapping=list(zip(layer.trainable_variables, weights, strict=True))):
                outputs = tree.flatten(layer(tensor, **call))
            return weighted(outputs), outputs

        weights = [v.value for v in layer.trainable_variables]
        (_, outputs), (first, rest) = jax.jit(jax.value_and_grad(function, argnums=(0, 1), has_aux=True))(
            jax.numpy.asarray(inputs), weights
        )
        gradients = [first, *rest]
    return [np.asarray(o) for o in outputs], [np.asarray(g) for g in gradients]


def _keep_masks(layer: Any) -> None:
    """Let Keras's own recurrent layers pass masks on; from Keras 3.16 on they lose them, and warn that they do."""
    for inner in layer._flatten_layers() if isinstance(layer, keras.Layer) else ():
        if type(inner).__module__.startswith("keras.src.layers.rnn."):
            inner.supports_masking = True


def assert_all_close(got: list, expected: list, **tolerance: float) -> None:
    """Compare two lists of arrays."""
    assert len(got) == len(expected)
    for index, (a, b) in enumerate(zip(got, expected, strict=True)):
        np.testing.assert_allclose(a, b, err_msg=f"at place {index}", **tolerance)
