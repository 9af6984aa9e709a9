"""Lowering of functions for GPUs and TPUs by `jax.export`, which needs a processor only."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import keras
import pytest
from jax import export, numpy
from keras import ops

PLATFORMS = {"cuda": "gpu", "tpu": "tpu"}  # of `jax.export`, and JAX's name of the backend that runs them


def lower(function: Callable, *arguments: Any) -> None:
    """Lower a function of nests of arrays for each platform, as a process that computes there would trace it."""
    for platform, backend in PLATFORMS.items():
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(jax, "default_backend", lambda backend=backend: backend)
            traced = jax.jit(lambda *inputs: function(*inputs))  # a new function, which is traced again
            exported = export.export(traced, platforms=[platform])(*arguments)
        assert exported.platforms == (platform,)
        assert "stablehlo" in exported.mlir_module()


def symbolic(arrays: Any) -> Any:
    """Return tensors without values, by which a layer is built quickly."""
    return jax.tree.map(lambda x: keras.KerasTensor(x.shape, keras.backend.standardize_dtype(x.dtype)), arrays)


def total(outputs: Any) -> Any:
    """Return a scalar that depends on all floats of a nest."""
    floats = [x for x in jax.tree.leaves(outputs) if numpy.issubdtype(x.dtype, numpy.floating)]
    return sum(ops.sum(ops.square(ops.cast(x, "float32"))) for x in floats)


def lower_layer(layer: Any, *inputs: Any, both: bool = False, through: Callable | None = None, **call: Any) -> None:
    """Lower the gradient of a layer's outputs by its weights and its first input, and its outputs outside of training.

    Args:
        layer: A built layer.
        inputs: Arrays.
        both: Whether `training` is an argument of its call.
        through: A function of the layer and the inputs in place of the layer's call.
        call: Other arguments.
    """
    variables = layer.variables
    trained = {id(v) for v in layer.trainable_variables}

    def outputs(values: list, inputs: tuple, **training: bool) -> Any:
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            return (layer if through is None else partial(through, layer))(*inputs, **call, **training)

    def loss(weights: list, first: Any, rest: tuple, others: list) -> Any:
        weights, others = iter(weights), iter(others)
        values = [next(weights if id(v) in trained else others) for v in variables]
        return total(outputs(values, (first, *rest), **({"training": True} if both else {})))

    weights = [v.value for v in variables if id(v) in trained]
    others = [v.value for v in variables if id(v) not in trained]
    by = (0, 1) if numpy.issubdtype(numpy.asarray(inputs[0]).dtype, numpy.floating) else (0,)
    lower(jax.grad(loss, argnums=by), weights, inputs[0], inputs[1:], others)
    training = {"training": False} if both else {}
    lower(lambda values, inputs: outputs(values, inputs, **training), [v.value for v in variables], inputs)
