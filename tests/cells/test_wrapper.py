"""Wrappers around wrappers: the same results in both loops, gradients, files and precision."""

import inspect

import keras
import numpy as np
import pytest
from keras.src.saving.serialization_lib import ObjectSharingScope  # not in Keras's public API

import kseq
from kseq.cells import (
    BatchNormCell,
    Cell,
    DropoutCell,
    GRUCell,
    LearnedStateCell,
    LSTMCell,
    ResidualCell,
    SimpleRNNCell,
    StackedCells,
    ZoneoutCell,
)
from kseq.cells.copies import config_of
from kseq.cells.wrapper import OuterCell
from kseq.masking import mask_from_lengths
from tests.support import BACKEND, assert_all_close, keras_may_lose_masks, outputs_and_gradients

pytestmark = keras_may_lose_masks
BATCH, TIME, UNITS = 3, 6, 5
X = np.random.default_rng(0).normal(size=(BATCH, TIME, UNITS)).astype("float32")
MASK = mask_from_lengths(np.array([6, 3, 1]), TIME)
ALL = (0.3, 0.3, 0.3)
COMPOSITIONS = {  # with the number of loops they run
    "zoneout(dropout)": (lambda: ZoneoutCell(DropoutCell(LSTMCell(UNITS), 0.3, 0.3), 0.3), 1),
    "dropout(zoneout)": (lambda: DropoutCell(ZoneoutCell(GRUCell(UNITS), 0.3), *ALL), 1),
    "residual(zoneout(dropout))": (lambda: ResidualCell(ZoneoutCell(DropoutCell(GRUCell(UNITS), 0.3, 0.3), 0.3)), 1),
    "dropout(residual)": (lambda: DropoutCell(ResidualCell(LSTMCell(UNITS)), 0.3, 0.0, 0.3), 1),
    "residual(residual)": (lambda: ResidualCell(ResidualCell(LSTMCell(UNITS))), 1),
    "batch norm(zoneout)": (lambda: BatchNormCell(ZoneoutCell(LSTMCell(UNITS), [0.1, 0.4])), 1),
    "zoneout(batch norm)": (lambda: ZoneoutCell(BatchNormCell(SimpleRNNCell(UNITS)), 0.3), 1),
    "zoneout(zoneout)": (lambda: ZoneoutCell(ZoneoutCell(LSTMCell(UNITS), 0.3), 0.3), 1),
    "zoneout(learned)": (lambda: ZoneoutCell(LearnedStateCell(LSTMCell(UNITS), "ones"), 0.3), 1),
    "learned(residual)": (lambda: LearnedStateCell(ResidualCell(GRUCell(UNITS)), "ones"), 1),
    "residual(stack)": (lambda: ResidualCell(StackedCells([BatchNormCell(LSTMCell(4)), LSTMCell(UNITS)])), 2),
    "stack": (lambda: StackedCells([DropoutCell(BatchNormCell(LSTMCell(4)), *ALL), ResidualCell(GRUCell(4))]), 2),
    "all": (
        lambda: StackedCells(
            [
                DropoutCell(BatchNormCell(LSTMCell(4)), *ALL),
                ResidualCell(ZoneoutCell(LearnedStateCell(GRUCell(4)), 0.3)),
            ]
        ),
        2,
    ),
    "stack of stacks": (lambda: StackedCells([StackedCells([GRUCell(3), LSTMCell(4)]), GRUCell(2)]), 3),
    "cells' own dropout": (lambda: ZoneoutCell(LSTMCell(UNITS, dropout=0.3, recurrent_dropout=0.3), 0.3), 1),
}


def make(name, layer_class=kseq.layers.RNN, **options):
    layer = layer_class(COMPOSITIONS[name][0](), return_sequences=True, return_state=True, **options)
    layer.build(X.shape)
    random = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(random.normal(size=weight.shape) / 2)
    return layer


def draw_again(layer):
    for variable in layer.variables:
        if variable.name == "seed_generator_state":
            variable.assign([7, 0])


@pytest.fixture(params=COMPOSITIONS)
def name(request):
    return request.param


@pytest.mark.mostly_long("residual(residual)", "stack", "all")
def test_steps_mean_the_same_as_sequences(name):
    """At inference: in Keras's loop, and step by step."""
    ours, theirs = make(name), make(name, keras.layers.RNN)
    outputs, *final = ours(X)
    got, expected = (outputs_and_gradients(layer, X) for layer in (ours, theirs))
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=2e-5)
    state = ours.cell.get_initial_state(BATCH)
    for time in range(TIME):
        output, state = ours.cell(X[:, time], state)
        np.testing.assert_allclose(output, outputs[:, time], atol=1e-6)
    assert_all_close([np.asarray(s) for s in state], [np.asarray(s) for s in final], atol=1e-6)


@pytest.mark.mostly_long("residual(residual)", "stack", "all")
def test_training_goes_by_the_engine_and_its_gradients_are_right(name, monkeypatch):
    """In training with all that is random, own gradients against automatic ones; NaN in the padding against none."""
    layer, calls, engine = make(name), [], kseq.engine.runner.Recurrence
    poisoned = np.where(np.asarray(MASK)[..., None], X, np.nan)

    def counting(equations, *arguments, **options):
        calls.append(1)
        return engine(equations, *arguments, **options)

    def automatic(equations, *arguments, **options):
        return engine(equations._replace(gates_gradient=None, recur_gradient=None), *arguments, **options)

    results = []
    for loop, values in ((counting, X), (automatic, poisoned)):
        monkeypatch.setattr(kseq.engine.runner, "Recurrence", loop)
        draw_again(layer)
        results.append(outputs_and_gradients(layer, values, mask=MASK, training=True))
    assert len(calls) == COMPOSITIONS[name][1]
    (got, gradients), (expected, expected_gradients) = results
    assert_all_close(got + gradients, expected + expected_gradients, atol=1e-5)


def plain_cells():
    classes = [getattr(kseq.cells, name) for name in kseq.cells.__all__]
    cells = [c for c in classes if inspect.isclass(c) and issubclass(c, Cell) and c is not Cell]
    return [c for c in cells if not issubclass(c, OuterCell) and c.run is Cell.run]


@pytest.mark.long
@pytest.mark.parametrize("cell_class", plain_cells(), ids=lambda cell: cell.__name__)
def test_every_cell_of_pieces_can_be_wrapped(cell_class):
    shape = (BATCH, TIME, *([6] * getattr(cell_class, "SPATIAL_RANK", 0)), UNITS)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    layers = []
    for layer_class in (kseq.layers.RNN, keras.layers.RNN):
        cell = ZoneoutCell(DropoutCell(BatchNormCell(cell_class(UNITS)), *ALL[:2]), 0.3)
        layers.append(layer_class(cell, return_sequences=True))
        layers[-1].build(x.shape)
    layers[1].set_weights(layers[0].get_weights())
    got, expected = (outputs_and_gradients(layer, x, mask=MASK) for layer in layers)
    assert_all_close(got[0] + got[1], expected[0] + expected[1], atol=2e-5, rtol=2e-5)
    outputs, gradients = outputs_and_gradients(layers[0], x, mask=MASK, training=True)
    assert all(np.isfinite(value).all() for value in outputs + gradients)
    assert not np.allclose(outputs[0], got[0][0])


@pytest.mark.long
def test_dropout_in_training_is_the_same_in_keras_loop():
    """The masks drawn before the loop are the same at all steps, also those of inner cells."""
    for name in ("dropout(residual)", "stack"):
        ours, theirs = make(name), make(name, keras.layers.RNN)
        for layer in (ours, theirs):
            for inner in layer._flatten_layers():
                if isinstance(inner, keras.layers.BatchNormalization):
                    inner.trainable = False  # its steps use the moving averages
            draw_again(layer)
        got, expected = (outputs_and_gradients(layer, X, training=True) for layer in (ours, theirs))
        assert_all_close(got[0], expected[0], atol=1e-5)


@pytest.mark.long
@pytest.mark.every_backend
def test_a_model_trains_and_round_trips(tmp_path):
    inputs = keras.Input((TIME, UNITS))
    outputs = kseq.layers.RNN(COMPOSITIONS["all"][0]())(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1)(outputs))
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=BACKEND == "jax")
    target = np.random.default_rng(2).normal(size=(BATCH, 1))
    before = float(np.mean((np.asarray(model(X)) - target) ** 2))
    model.fit(X, target, epochs=30, verbose=0)
    assert float(np.mean((np.asarray(model(X)) - target) ** 2)) < before
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(X), model(X))


def test_the_precision_is_the_inner_cells_unless_it_is_given():
    for dtype in ("mixed_bfloat16", "float64"):
        inside = ZoneoutCell(DropoutCell(LSTMCell(UNITS, dtype=dtype)), 0.1)
        outside = ZoneoutCell(DropoutCell(LSTMCell(UNITS)), 0.1, dtype=dtype)
        stack = StackedCells([BatchNormCell(LSTMCell(UNITS)), GRUCell(3)], dtype=dtype)
        for cell in (inside, outside, stack):
            policies = {layer.dtype_policy.name for layer in cell._flatten_layers()}
            assert policies == {dtype}
            assert cell.from_config(cell.get_config()).dtype_policy.name == dtype


def test_weights_of_another_precision_are_refused():
    cell = LSTMCell(UNITS)
    cell.build((None, UNITS))
    with pytest.raises(ValueError, match=r"computes in float64, but the weights of .* were created in float32"):
        ZoneoutCell(cell, 0.1, dtype="float64")


def test_a_cell_that_is_built_makes_configs_for_any_size():
    cell = ZoneoutCell(StackedCells([LSTMCell(UNITS)]).cells[0], 0.1)
    cell.build((None, UNITS))
    again = ZoneoutCell.from_config(cell.get_config())
    assert not again.cell.built


def test_what_keras_thinks_is_shared_is_not():
    """Keras identifies objects by address, and cells of a loaded model may have the addresses of deleted ones."""
    cell = ResidualCell(LSTMCell(3))
    with ObjectSharingScope():  # as in `keras.saving.load_model`
        config_of(cell)
        config = config_of(cell)  # Keras marks it and its parts as shared the second time
        copies = [keras.saving.deserialize_keras_object(config) for _ in range(2)]
    assert copies[0] is not copies[1]
    assert copies[0].cell is not copies[1].cell


def test_a_cell_that_is_not_kseqs_is_refused():
    with pytest.raises(ValueError, match=r"ResidualCell takes a kseq.cells.Cell, but got <LSTMCell"):
        ResidualCell(keras.layers.LSTMCell(UNITS))


def test_models_take_wrapped_cells():
    encoder = kseq.models.Encoder(11, 8, ZoneoutCell(LSTMCell(6), 0.1), num_layers=2, dtype="mixed_bfloat16")
    encoded = encoder(np.ones((2, 4), "int32"), np.array([4, 2]))
    assert encoded.values.shape == (2, 4, 12)
    assert {layer.dtype_policy.name for layer in encoder.layers[0]._flatten_layers()} == {"mixed_bfloat16"}


def test_a_users_wrapper_may_change_the_equations_alone():
    class Doubled(kseq.cells.wrapper.WrapperCell):
        def equations(self, training=False):
            inner = self.cell.equations(training)
            return inner._replace(project=lambda inputs, mask: 2.0 * inner.project(inputs, mask))

    class DoubledLSTMCell(kseq.cells.LSTMCell):
        def project(self, inputs):
            return 2.0 * super().project(inputs)

    wrapped, plain = Doubled(kseq.cells.LSTMCell(4)), DoubledLSTMCell(4)
    layers = [kseq.layers.RNN(cell, return_sequences=True) for cell in (wrapped, plain)]
    for layer in layers:
        layer.build(X.shape)
    layers[0].set_weights(layers[1].get_weights())
    np.testing.assert_allclose(layers[0](X), layers[1](X), atol=1e-6)
    step = [X[:, 0], wrapped.get_initial_state(len(X))]
    np.testing.assert_allclose(wrapped(*step)[0], plain(*step)[0], atol=1e-6)


def test_equations_of_a_cell_with_a_run_of_its_own_are_not_changed():
    """Nothing would call its `run`."""

    class OwnRun(kseq.cells.LSTMCell):
        def run(self, inputs, state, mask=None, **options):
            return super().run(0.0 * inputs, state, mask, **options)

    for wrap in (lambda cell: kseq.cells.ZoneoutCell(cell, 0.1), kseq.cells.BatchNormCell):
        with pytest.raises(ValueError, match="OwnRun"):
            wrap(OwnRun(4))
        with pytest.raises(ValueError, match=r"OwnRun|LearnedStateCell"):
            wrap(kseq.cells.LearnedStateCell(OwnRun(4)))


def test_gates_of_a_gru_with_reset_before_are_the_step_where_a_subclass_defines_them():
    class Gated(kseq.cells.GRUCell):
        def gates(self, projected, recurrent, state):
            return (0.0 * state[0] + 3.0,)

    x = np.ones((2, 3, 5), "float32")
    np.testing.assert_array_equal(kseq.layers.RNN(Gated(4, reset_after=False, use_bias=False))(x), np.full((2, 4), 3.0))
