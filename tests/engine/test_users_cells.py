"""Users' cells whose functions assign variables, draw random numbers, or use tensors that are not their arguments."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.backend import vector_jacobian_product
from tests.support import BACKEND, compiled

X = np.random.default_rng(0).normal(size=(3, 7, 4)).astype("float32")


class AddingCell(kseq.cells.LSTMCell):
    """Adds all its inputs to a variable."""

    def build(self, input_shape):
        super().build(input_shape)
        self.total = self.add_weight(shape=(), initializer="zeros", trainable=False, name="total")

    def project(self, inputs):
        self.total.assign(self.total + ops.sum(inputs))
        return super().project(inputs)


class NoisyCell(kseq.cells.SimpleRNNCell):
    """Its output is the sum of the noise drawn so far."""

    def project(self, inputs):
        return keras.random.normal((*ops.shape(inputs)[:-1], self.units), seed=self.seed_generator)


class MaskedMeanCell(kseq.cells.LSTMCell):
    """Subtracts the mean of the inputs over all real rows of a step, for which it needs the mask."""

    def equations(self, training=False):
        inner = super().equations(training)

        def project(inputs, mask):
            real = ops.ones(ops.shape(inputs)[:-1]) if mask is None else ops.cast(mask, inputs.dtype)
            total = ops.sum(inputs * real[..., None], axis=-2, keepdims=True)
            mean = total / ops.maximum(ops.sum(real, axis=-1)[..., None, None], 1.0)
            return inner.project(inputs - mean, mask)

        return inner._replace(project=project, projects_rows_apart=False)


class ContextCell(kseq.cells.LSTMCell):
    """Adds a context, set from outside, to its projected inputs."""

    def project(self, inputs):
        return super().project(inputs) + ops.tile(self.context, (1, 4))


class ContextGatesCell(kseq.cells.LSTMCell):
    def gates(self, projected, recurrent, state):
        return super().gates(projected + ops.tile(self.context, (1, 4)), recurrent, state)


class ContextCoefficientsCell(kseq.cells.MinGRUCell):
    def coefficients(self, projected):
        decay, increment = super().coefficients(projected)
        return decay, increment * ops.mean(self.context, axis=0)


def context_activation_cell(units):
    """A kseq cell whose activation captures a tensor."""
    cell = kseq.cells.SimpleRNNCell(units, activation=lambda x: ops.tanh(x) * cell.context)
    return cell


CONTEXTUAL_CELLS = {
    "gates": ContextGatesCell,
    "coefficients": ContextCoefficientsCell,
    "activation": context_activation_cell,
}


class ScaleInGatesCell(kseq.cells.LSTMCell):
    def build(self, input_shape):
        super().build(input_shape)
        self.scale = self.add_weight(shape=(self.units,), initializer="ones", name="scale")

    def gates(self, projected, recurrent, state):
        hidden, memory = super().gates(projected, recurrent, state)
        return hidden * self.scale, memory


def layer_of(cell, **options):
    layer = kseq.layers.RNN(cell, return_sequences=True, **options)
    layer.build((None, None, 4))
    return layer


def run_compiled(layer, x, **call):
    """The outputs of a compiled call, whose assignments are kept."""
    if BACKEND == "tensorflow":
        return compiled(lambda x: layer(x, **call))(x)
    values = [[v.value for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables)]
    outputs, new = compiled(lambda *given: layer.stateless_call(*given, **call))(*values, x)
    for variable, value in zip(layer.non_trainable_variables, new, strict=True):
        variable.assign(value)
    return outputs


@pytest.mark.long
@pytest.mark.long_on_jax
@pytest.mark.parametrize("wrap", [lambda cell: cell, kseq.cells.LearnedStateCell], ids=["plain", "wrapped"])
def test_what_a_cell_assigns_at_inference_is_kept(wrap):
    cell = AddingCell(6)
    layer = layer_of(wrap(cell))
    run_compiled(layer, X)
    run_compiled(layer, 2.0 * X)
    np.testing.assert_allclose(float(cell.total), 3.0 * X.sum(), rtol=1e-5)


@pytest.mark.long
@pytest.mark.every_backend
def test_a_cell_that_draws_at_inference_draws_anew_at_every_step_and_call():
    layer = layer_of(NoisyCell(6, activation=None, recurrent_initializer="zeros"))
    steps = np.concatenate([np.asarray(run_compiled(layer, X)) for _ in range(2)], axis=1)  # (3, 14, 6)
    assert len(np.unique(steps)) == steps.size


def test_projections_of_a_users_own_get_the_mask_at_inference():
    mask = np.arange(7)[None] < np.array([[7], [4], [2]])
    layer = layer_of(MaskedMeanCell(6))
    expected = layer(X, mask=mask, training=True)
    np.testing.assert_allclose(run_compiled(layer, X, mask=mask), expected, atol=1e-6)


def context_gradient(cell_class, *, training, wrap=lambda f: f):
    """The gradient of a context that a cell captures."""
    keras.utils.set_random_seed(1)
    layer = layer_of(cell_class(6))

    def function(context):
        def run(context):
            layer.cell.context = ops.tanh(context)
            return layer(X, training=training)

        outputs, pullback = vector_jacobian_product(run, context)
        return pullback(ops.ones_like(outputs))[0]

    return np.asarray(wrap(function)(ops.ones((3, 6))))


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.parametrize("training", [False, True])
def test_tensors_captured_by_project_have_their_gradient(training):
    eager = context_gradient(ContextCell, training=True)
    assert np.abs(eager).min() > 1e-4
    np.testing.assert_allclose(context_gradient(ContextCell, training=training, wrap=graph), eager, atol=1e-5)


def graph(function):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return compiled(function)


@pytest.mark.every_backend
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, graph], ids=["eager", "graph"])
@pytest.mark.parametrize("piece", CONTEXTUAL_CELLS)
def test_gradients_of_tensors_captured_by_pieces_are_refused(piece, wrap, training):
    """TensorFlow by itself would return no gradient without an error; JAX refuses by itself."""
    cell_class = CONTEXTUAL_CELLS[piece]
    with pytest.raises(Exception, match=r"use tensors that are not among their arguments|unexpected tracer"):
        context_gradient(cell_class, training=training, wrap=wrap)


@pytest.mark.long
@pytest.mark.parametrize("wrap", [lambda f: f, graph], ids=["eager", "graph"])
def test_gates_may_capture_what_needs_no_gradient(wrap):
    import tensorflow as tf

    layer = layer_of(ContextGatesCell(6))

    def run(context):
        layer.cell.context = tf.stop_gradient(context)
        with tf.GradientTape() as tape:
            tape.watch(context)
            total = tf.reduce_sum(layer(X, training=True))
        return tape.gradient(total, layer.trainable_weights)

    assert all(np.isfinite(g).all() and np.any(g != 0) for g in map(np.asarray, wrap(run)(tf.ones((3, 6)))))


def test_a_weight_that_gates_take_by_themselves_does_not_lose_its_gradient():
    """Also at inference, where the loop could compute with the weight."""
    import tensorflow as tf

    layer = layer_of(ScaleInGatesCell(6))

    def run(x):
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(x))
        return tape.gradient(total, layer.cell.scale.value)

    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="gate_weights"):
        tf.function(run)(X)


@pytest.mark.long
def test_under_xla_a_refused_gradient_is_nan_and_says_so():
    import tensorflow as tf

    layer = layer_of(ContextGatesCell(6))

    def run(context):
        with tf.GradientTape() as tape:
            tape.watch(context)
            layer.cell.context = ops.tanh(context)
            total = tf.reduce_sum(layer(X, training=True))
        return tape.gradient(total, context)

    with pytest.warns(UserWarning, match=r"they get no gradient.*Compiled by XLA, that gradient is NaN"):
        gradient = tf.function(run, jit_compile=True)(tf.ones((3, 6)))
    assert np.isnan(np.asarray(gradient)).all()


@pytest.mark.parametrize("where", ["attribute", "list", "class", "closure"])
def test_a_tensor_that_is_captured_later_is_refused_too(where):
    """After calls of the same cell that captured nothing."""
    import tensorflow as tf

    found = {}

    class LateCell(kseq.cells.LSTMCell):
        scale = None

        def gates(self, projected, recurrent, state):
            scales = [x for x in (self.scale, *self.scales, *found.values()) if x is not None]
            return super().gates(projected * (scales[0] if scales else 1.0), recurrent, state)

    layer = layer_of(LateCell(6))
    layer.cell.scales = []
    layer(X, training=True)
    value = tf.ones(())
    set_scale = {
        "attribute": lambda x: setattr(layer.cell, "scale", x),
        "list": lambda x: layer.cell.scales.append(x),
        "class": lambda x: setattr(LateCell, "scale", x),
        "closure": lambda x: found.update(scale=x),
    }
    with tf.GradientTape() as tape:
        tape.watch(value)
        set_scale[where](value)
        total = tf.reduce_sum(layer(X, training=True))
    with pytest.raises(NotImplementedError, match="not among"):
        tape.gradient(total, value)
