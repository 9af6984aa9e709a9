"""Cells of the user's: what they need, and copies of them in layers and models, registered with Keras or not."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.cells import Cell, GRUCell, LSTMCell, ResidualCell, ZoneoutCell
from kseq.layers import RNN, Bidirectional

X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")


class MinimalCell(Cell):
    """The cell of the docstring of `Cell`; Keras does not know its class."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.state_size), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.state_size,) * 2, name="recurrent_kernel")

    def gates(self, projected, recurrent, state):
        return (ops.tanh(projected + recurrent),)

    def get_config(self):
        return {**super().get_config(), "units": self.state_size}


class StepCell(Cell):
    """A cell with a step of its own, Keras's `call`, and weights with other names."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.state_size = units

    def build(self, input_shape):
        self.W = self.add_weight(shape=(input_shape[-1], self.state_size), name="W")
        self.U = self.add_weight(shape=(self.state_size,) * 2, name="U")

    def call(self, inputs, states):
        hidden = ops.tanh(inputs @ self.W + states[0] @ self.U)
        return hidden, [hidden]


class WithoutConfig(GRUCell):
    """A cell whose argument its `get_config` forgets."""

    def __init__(self, units, alpha=0.5, **kwargs):
        super().__init__(units, **kwargs)
        self.alpha = alpha


class WrapperWithoutConfig(ResidualCell):
    """The same for a wrapper, whose argument `cell` is no plain number."""

    def __init__(self, cell, alpha=0.5, **kwargs):
        super().__init__(cell, **kwargs)
        self.alpha = alpha


class WithoutKeywords(MinimalCell):
    """A cell that takes none of the arguments of `keras.layers.Layer`."""

    def __init__(self, units):
        super().__init__(units)


@pytest.mark.parametrize("kind", [MinimalCell, StepCell])
def test_copies_need_no_registration(kind):
    model = keras.Sequential([keras.Input((None, 4)), Bidirectional(RNN(kind(3), return_sequences=True)), RNN(kind(2))])
    np.testing.assert_array_equal(model(X).shape, (3, 2))
    encoder = kseq.models.Encoder(10, 4, ZoneoutCell(MinimalCell(3), 0.1))
    np.testing.assert_array_equal(encoder(np.ones((2, 3), int), np.array([3, 2])).values.shape, (2, 3, 6))


@pytest.mark.parametrize("kind", [MinimalCell, StepCell])
def test_a_saved_model_is_loaded(kind, tmp_path):
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, RNN([kind(3), kind(np.int64(2))])(inputs))
    if kind is StepCell:  # Keras returns only plain arguments by itself
        with pytest.raises(ValueError, match=r"StepCell cannot be saved or copied. Define get_config\(self\)"):
            model.save(tmp_path / "model.keras")
        model = keras.Model(inputs, RNN([kind(3), kind(2)])(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", custom_objects={kind.__name__: kind})
    np.testing.assert_allclose(loaded(X), model(X), atol=1e-6)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (lambda: WithoutConfig(4, alpha=0.9), "constructor takes alpha, which get_config does not return"),
        (lambda: WrapperWithoutConfig(GRUCell(4), alpha=0.9), "constructor takes alpha"),
        (lambda: ZoneoutCell(WithoutConfig(4, alpha=0.9), 0.1), "WithoutConfig cannot be saved or copied"),
        (lambda: WithoutKeywords(4), r"get_config returns .*dtype.*Define __init__\(self, ..., \*\*kwargs\)"),
    ],
)
def test_cells_that_could_not_be_loaded_are_refused(cell, message, tmp_path):
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, RNN(cell())(inputs))
    for use in (
        lambda: model.save(tmp_path / "model.keras"),
        lambda: Bidirectional(RNN(cell())),
        lambda: kseq.models.Encoder(10, 4, cell()),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_an_argument_with_its_default_is_not_missed(tmp_path):
    inputs = keras.Input((None, 4))
    keras.Model(inputs, RNN(WithoutConfig(4))(inputs)).save(tmp_path / "model.keras")


def test_a_cell_without_its_parts_is_refused_when_a_layer_is_made_or_built():
    class OtherNames(MinimalCell):
        def build(self, input_shape):
            self.W = self.add_weight(shape=(input_shape[-1], self.state_size), name="W")

    class NoStep(Cell):
        def __init__(self):
            super().__init__()
            self.state_size = 3

    with pytest.raises(ValueError, match=r"OtherNames has no weight named kernel.*or override project\(inputs\)"):
        RNN(OtherNames(3))(keras.Input((None, 4)))
    with pytest.raises(NotImplementedError, match=r"NoStep must define gates.*keras.layers.Layer with state_size"):
        RNN(NoStep())
    with pytest.raises(ValueError, match=r"without the attribute state_size\. Set state_size in its constructor"):
        RNN(Cell())


def test_keras_cells_are_copied_with_their_precision():
    (layer,) = kseq.models.Encoder(10, 4, keras.layers.LSTMCell(3), bidirectional=False, dtype="mixed_float16").layers
    assert isinstance(layer.cell, keras.layers.LSTMCell)
    assert not isinstance(layer.cell, LSTMCell)
    assert layer.cell.compute_dtype == "float16"
