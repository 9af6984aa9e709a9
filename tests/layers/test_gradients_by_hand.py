"""kseq's gradients against backpropagation written out by hand, in `tests/reference/backpropagation.py`."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.reference import backpropagation

TIME, FEATURES, UNITS, PLACES = 5, 2, 3, 3


def gradients(function, arrays, d_outputs):
    """Return the outputs, and the gradients of sum(outputs * d_outputs) by arrays and weights that `function` takes."""

    def loss(*tensors):
        return ops.sum(function(*tensors) * ops.convert_to_tensor(d_outputs.astype("float32")))

    tensors = [ops.convert_to_tensor(each.astype("float32")) for each in arrays]
    value, pullback = kseq.backend.vector_jacobian_product(loss, *tensors)
    return [ops.convert_to_numpy(each) for each in pullback(ops.ones_like(value))]


def applied(layer, *inputs):
    """Return a function of `(inputs, initial states, weights)` of one row, which is given without a batch."""

    def function(*tensors):
        given, weights = tensors[: len(inputs)], tensors[len(inputs) :]
        with keras.StatelessScope(list(zip(layer.trainable_variables, weights, strict=True))):
            return layer(given[0][None], initial_state=[each[None] for each in given[1:]])[0]

    return function


def random_arrays(*shapes):
    random = np.random.default_rng(3)
    return [random.normal(size=shape) for shape in shapes]


def rnn_weights():
    return (FEATURES, UNITS), (UNITS, UNITS), (UNITS,)


def check(layer, arrays, weights, d_outputs, expected):
    """Hold the layer's gradients by `arrays`, then by its weights, against the expected ones."""
    found = gradients(applied(layer, *arrays), [*arrays, *weights], d_outputs)
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5, err_msg=f"at place {index}")


@pytest.mark.every_backend
@pytest.mark.parametrize("last_step_only", [False, True])
def test_simple_rnn(last_step_only):
    layer = kseq.layers.SimpleRNN(UNITS, return_sequences=True)
    layer.build((None, None, FEATURES))
    x, before, d_hidden, *weights = random_arrays((TIME, FEATURES), (UNITS,), (TIME, UNITS), *rnn_weights())
    d_hidden[: TIME - 1 if last_step_only else 0] = 0.0
    dx, d_kernel, d_recurrent, d_bias, d_before = backpropagation.simple_rnn_gradients(x, *weights, before, d_hidden)
    check(layer, [x, before], weights, d_hidden, [dx, d_before, d_kernel, d_recurrent, d_bias])


@pytest.mark.every_backend
def test_bidirectional_rnn():
    layer = kseq.layers.Bidirectional(kseq.layers.SimpleRNN(UNITS, return_sequences=True))
    layer.build((None, None, FEATURES))
    shapes = (TIME, FEATURES), (UNITS,), (UNITS,), (TIME, 2 * UNITS), *rnn_weights(), *rnn_weights()
    x, before, after, d_outputs, *weights = random_arrays(*shapes)
    dx, d_forward, d_backward, d_before, d_after = backpropagation.bidirectional_gradients(
        x, weights[:3], weights[3:], before, after, d_outputs
    )
    check(layer, [x, before, after], weights, d_outputs, [dx, d_before, d_after, *d_forward, *d_backward])


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_of_the_front_end(stride):
    layer = kseq.frontends.FrameConvolutions((UNITS,), kernel_size=PLACES, strides=stride)
    layer.build((None, None, FEATURES), (None,))
    frames = -(-TIME // stride)
    x, kernel, bias, d_outputs = random_arrays((TIME, FEATURES), (PLACES, FEATURES, UNITS), (UNITS,), (frames, UNITS))
    expected = backpropagation.convolution_gradients(x, kernel, bias, stride, d_outputs)
    lengths = np.array([TIME], "int32")

    def function(values, *weights):
        with keras.StatelessScope(list(zip(layer.trainable_variables, weights, strict=True))):
            return layer(values[None], lengths)[0]

    outputs = function(*(ops.convert_to_tensor(each.astype("float32")) for each in (x, kernel, bias)))
    by_hand = backpropagation.convolution(x, kernel, bias, stride)
    np.testing.assert_allclose(outputs, by_hand, rtol=1e-4, atol=1e-5)
    for a, b in zip(gradients(function, [x, kernel, bias], d_outputs), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
