"""The inference loop against the loop with a hand-written backward pass."""

import keras
import numpy as np
import pytest

import kseq
from kseq.backend import vector_jacobian_product
from kseq.engine import inference_loop
from kseq.masking import mask_from_lengths
from tests.contracts.cells import CELLS as CELLS_OF_KSEQ
from tests.contracts.cells import FEATURES, make
from tests.support import assert_all_close, compiled

CELLS = {
    "lstm": lambda: kseq.cells.LSTMCell(6),
    "gru": lambda: kseq.cells.GRUCell(6),
    "learned state": lambda: kseq.cells.LearnedStateCell(kseq.cells.PeepholeLSTMCell(6)),
    "batch norm": lambda: kseq.cells.BatchNormCell(kseq.cells.LSTMCell(6)),
}
OF_THEIR_OWN = (kseq.cells.MinGRUCell, kseq.cells.MinLSTMCell, kseq.cells.RGLRUCell)
X = np.random.default_rng(0).normal(size=(3, 7, 4)).astype("float32")
MASK = mask_from_lengths([7, 4, 0], 7)


def answers_and_gradients(layer, mask):
    """Outputs and final states, and the gradients of the inputs and of all weights, from a compiled function."""
    variables = layer.trainable_variables

    def function(inputs, weights):
        def run(inputs, weights):
            with keras.StatelessScope(state_mapping=zip(variables, weights, strict=True)):
                return tuple(layer(inputs, mask=mask))

        outputs, pullback = vector_jacobian_product(run, inputs, weights)
        d_inputs, d_weights = pullback(outputs)  # of half the sum of squares
        return [*outputs, d_inputs, *d_weights]

    return [np.asarray(y) for y in compiled(function)(X, [np.asarray(v) for v in variables])]


@pytest.fixture
def light(monkeypatch):
    """A list with one item for each run of the inference loop."""
    ran, loop = [], inference_loop.loop

    def run(*args, **kwargs):
        ran.append(True)
        return loop(*args, **kwargs)

    monkeypatch.setattr(inference_loop, "loop", run)
    return ran


@pytest.mark.long
@pytest.mark.parametrize("cell", CELLS)
def test_gives_the_engines_answers_and_gradients(cell, light, monkeypatch):
    layer = kseq.layers.RNN(CELLS[cell](), return_sequences=True, return_state=True)
    layer.build((None, None, 4))
    by_light = answers_and_gradients(layer, MASK)
    assert light
    light.clear()
    monkeypatch.setattr(inference_loop.backend, "projects_ahead", lambda *sizes: True)
    assert_all_close(by_light, answers_and_gradients(layer, MASK), atol=2e-6)
    assert not light


@pytest.mark.parametrize("cell_class", CELLS_OF_KSEQ, ids=lambda cell: cell.__name__)
def test_kseqs_own_cells_are_run_by_it(cell_class, light, monkeypatch):
    """Except those with a `run` of their own."""
    import tensorflow as tf

    monkeypatch.setattr(inference_loop.backend, "projects_ahead", lambda *sizes: False)
    layer = make(cell_class)
    shape = (1, 3, *([6] * getattr(cell_class, "SPATIAL_RANK", 0)), FEATURES)
    tf.function(lambda x: layer(x))(np.zeros(shape, "float32"))
    assert len(light) == (0 if cell_class in OF_THEIR_OWN else 2 if cell_class is kseq.cells.StackedCells else 1)


@pytest.mark.long
def test_large_steps_and_training_are_the_engines(light):
    layer = kseq.layers.LSTM(6)
    layer.build((None, None, 4))
    compiled(lambda x: layer(x, training=True))(X)
    assert not light
    large = kseq.layers.LSTM(256)
    compiled(lambda x: large(x))(X[:1].repeat(8, axis=0))
    assert not light  # 8 rows times 256 x 1024
    wide = kseq.layers.LSTM(6)
    compiled(lambda x: wide(x))(np.ones((3, 7, 13), "float32"))
    assert not light
    single = kseq.layers.LSTM(6)
    compiled(lambda x: single(x))(X[:1])
    assert not light


@pytest.mark.long
def test_mixed_precision_is_differentiated_by_the_engine(light):
    """With mixed precision, the two loops would use weights of different precision."""
    layer = kseq.layers.LSTM(6, dtype="mixed_bfloat16")
    layer.build((None, None, 4))

    def gradient(x):
        outputs, pullback = vector_jacobian_product(lambda x: layer(x), x)
        return pullback(outputs)[0]

    assert np.isfinite(np.asarray(compiled(gradient)(X))).all()
    assert not light


@pytest.mark.long
def test_variables_that_a_strategy_spreads():
    """Training and inference with variables of which each device has a copy."""
    import tensorflow as tf

    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        layer = kseq.layers.LSTM(6, dropout=0.2, recurrent_dropout=0.2)
        model = keras.Sequential([layer, keras.layers.Dense(1)])
        model.compile("adam", "mse")
    model.fit(X, np.zeros((3, 1)), verbose=0)
    np.testing.assert_allclose(model.predict(X, verbose=0), model(X), atol=1e-6)
