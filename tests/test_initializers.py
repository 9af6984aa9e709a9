"""Initializers: properties, serialisation, and use in layers."""

import keras
import numpy as np
import pytest

import kseq
from kseq import initializers

X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
ALL = [
    initializers.BlockOrthogonal(2.0, seed=1),
    initializers.ForgetGateBias(3.0),
    initializers.ChronoLSTMBias(50, seed=1),
    initializers.ChronoGRUBias(50, seed=1),
    initializers.LogisticNormal(seed=1),
]
SHAPES = dict(zip(map(type, ALL), [(6, 18), (24,), (24,), (2, 18), (6, 18)], strict=True))
RECIPES = {
    "identity_rnn": ("SimpleRNN", initializers.identity_rnn()),
    "logistic_rnn": ("SimpleRNN", initializers.logistic_rnn()),
    "orthogonal_gates": ("GRU", initializers.orthogonal_gates()),
    "forget_gate_lstm": ("LSTM", initializers.forget_gate_lstm()),
    "chrono_lstm": ("LSTM", initializers.chrono_lstm(longest=100)),
    "chrono_gru": ("GRU", initializers.chrono_gru(longest=100)),
}


def built(library, kind, options, units=6):
    layer = getattr(library.layers, kind)(units, **options)
    layer.build((None, None, 4))
    return layer


def blocks(values, gates):
    return np.split(np.asarray(values), gates, axis=-1)


@pytest.mark.every_backend
@pytest.mark.parametrize("gates", [1, 3, 4])
def test_every_gates_block_is_orthogonal(gates):
    kernel = initializers.BlockOrthogonal(gain=2.0, seed=3)((16, gates * 16))
    squares = [block @ block.T for block in blocks(kernel, gates)]
    np.testing.assert_allclose(squares, np.broadcast_to(4.0 * np.eye(16), (gates, 16, 16)), atol=1e-5)
    for one, other in zip(blocks(kernel, gates), blocks(kernel, gates)[1:], strict=False):
        assert not np.allclose(one, other)


def test_orthogonal_blocks_are_uniform():
    """Uniformly distributed orthogonal matrices have entries of mean 0; the diagonal of plain QR is biased."""
    kernel = np.asarray(initializers.BlockOrthogonal(seed=3)((4, 4 * 2000)))
    diagonals = kernel.reshape(4, 2000, 4).diagonal(axis1=0, axis2=2)
    assert abs(diagonals.mean()) < 5 * 0.5 / np.sqrt(diagonals.size)


def test_forget_gate_bias_is_at_the_forget_gates():
    i, f, g, o = blocks(initializers.ForgetGateBias(2.5)((24,)), 4)
    assert np.all(f == 2.5)
    assert not np.any([i, g, o])


def test_forget_gate_bias_of_one_is_keras_unit_forget_bias():
    ours = built(kseq, "LSTM", initializers.forget_gate_lstm(1.0))
    theirs = built(keras, "LSTM", {"unit_forget_bias": True})
    np.testing.assert_array_equal(ours.cell.bias, theirs.cell.bias)


def test_chrono_lstm_bias():
    i, f, g, o = blocks(initializers.ChronoLSTMBias(longest=200, seed=0)((4 * 5000,)), 4)
    assert not np.any([g, o])
    np.testing.assert_array_equal(i, -f)
    assert_uniform(np.exp(f), 1, 199)


@pytest.mark.parametrize("shape", [(2, 3 * 5000), (3 * 5000,)])
def test_chrono_gru_bias(shape):
    bias = np.asarray(initializers.ChronoGRUBias(longest=200, seed=0)(shape))
    z, r, n = blocks(bias if bias.ndim == 1 else bias[0], 3)
    assert not np.any([r, n])
    assert bias.ndim == 1 or not np.any(bias[1])
    assert_uniform(np.exp(z), 1, 199)


def assert_uniform(values, low, high):
    """Check the range, and the quartiles within five standard errors."""
    assert low <= values.min()
    assert values.max() <= high * (1 + 1e-5)  # rounding of exp(log(u)) in float32
    for share in (0.25, 0.5, 0.75):
        error = (high - low) * np.sqrt(share * (1 - share) / len(values))
        assert abs(np.quantile(values, share) - (low + share * (high - low))) < 5 * error


def test_a_chrono_gru_forgets_at_its_time_scale():
    """Without inputs and recurrent kernel, the state decays by u / (1 + u) per step, where u = exp(bias)."""
    options = {"kernel_initializer": "zeros", "recurrent_initializer": "zeros", "return_sequences": True}
    layer = built(kseq, "GRU", {**options, **initializers.chrono_gru(longest=100)})
    u = np.exp(np.asarray(layer.cell.bias)[0, :6])
    outputs = layer(X, initial_state=[np.ones((3, 6), "float32")])
    np.testing.assert_allclose(outputs[0, -1], (u / (1 + u)) ** 5, rtol=1e-5)


def test_logistic_kernels_are_normal_of_3_6_by_root_n():
    kernel = np.asarray(initializers.LogisticNormal(seed=0)((100, 2000)))
    assert abs(kernel.std() - 3.6 / np.sqrt(100)) < 0.004
    assert abs(np.mean(np.abs(kernel) < kernel.std()) - 0.6827) < 0.01


def test_logistic_kernels_keep_the_variance_of_small_signals():
    """To first order, the output of a logistic unit has 1/16 of the variance of its pre-activation."""
    random = np.random.default_rng(0)
    y = 0.5 + random.normal(size=(400, 200))
    total = y @ np.asarray(initializers.LogisticNormal(seed=0)((200, 400)), "float64")
    np.testing.assert_allclose(total.var() / 16, 1.0, rtol=0.05)


@pytest.mark.parametrize("initializer", ALL, ids=lambda one: type(one).__name__)
def test_files_and_seeds(initializer):
    shape = SHAPES[type(initializer)]
    again = keras.initializers.get(keras.saving.serialize_keras_object(initializer))
    assert type(again) is type(initializer)
    assert again.get_config() == initializer.get_config()
    np.testing.assert_array_equal(again(shape), initializer(shape))
    if "seed" in initializer.get_config():
        unseeded = type(initializer).from_config({**initializer.get_config(), "seed": None})
        assert not np.allclose(unseeded(shape), initializer(shape))
    half = initializer(shape, dtype="float16")
    assert keras.backend.standardize_dtype(half.dtype) == "float16"
    assert np.isfinite(np.asarray(half, "float32")).all()


@pytest.mark.parametrize("library", [keras, kseq], ids=["keras", "kseq"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_fit_layers_and_survive_their_configs(recipe, library):
    kind, options = RECIPES[recipe]
    layer = built(library, kind, options)
    assert np.isfinite(np.asarray(layer(X))).all()
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    again.build((None, None, 4))


def test_the_identity_recipe_adds_its_inputs_up():
    """With ReLU and an identity kernel, a state that stays positive is the sum of the projected inputs."""
    layer = built(kseq, "SimpleRNN", initializers.identity_rnn())
    np.testing.assert_array_equal(layer.cell.recurrent_kernel, np.eye(6))
    assert not np.any(np.asarray(layer.cell.bias))
    assert np.abs(np.asarray(layer.cell.kernel)).max() < 0.006
    start = np.full((3, 6), 2.0, "float32")
    np.testing.assert_allclose(
        layer(X, initial_state=[start]), start + X.sum(axis=1) @ np.asarray(layer.cell.kernel), atol=1e-5
    )


def test_recipes_add_up(tmp_path):
    options = {**initializers.chrono_lstm(longest=100), **initializers.orthogonal_gates()}
    model = keras.Sequential([keras.Input((5, 4)), kseq.layers.LSTM(6, **options)])
    cell = model.layers[0].cell
    assert np.all(blocks(cell.bias, 4)[1] >= 0)
    np.testing.assert_allclose(blocks(cell.recurrent_kernel, 4)[1] @ blocks(cell.recurrent_kernel, 4)[1].T, np.eye(6),
                               atol=1e-5)  # fmt: skip
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(X), model(X))


@pytest.mark.parametrize(
    ("initializer", "shape", "message"),
    [
        (initializers.BlockOrthogonal(), (6, 20), r"\(units, gates \* units\), but got shape \(6, 20\)"),
        (initializers.BlockOrthogonal(), (24,), r"\(units, gates \* units\), but got shape \(24,\)"),
        (initializers.ForgetGateBias(), (18,), r"\(4 \* units,\), but got shape \(18,\)"),
        (initializers.ChronoLSTMBias(9), (2, 18), r"\(4 \* units,\), but got shape \(2, 18\)"),
        (initializers.ChronoGRUBias(9), (2, 16), r"\(2, 3 \* units\), .* but got shape \(2, 16\)"),
        (initializers.ChronoGRUBias(9), (3, 18), r"\(2, 3 \* units\), .* but got shape \(3, 18\)"),
        (initializers.LogisticNormal(), (18,), r"kernels \(inputs, units\), but got shape \(18,\)"),
    ],
)
def test_wrong_shapes_are_refused(initializer, shape, message):
    with pytest.raises(ValueError, match=message):
        initializer(shape)


def test_chrono_needs_a_distance():
    with pytest.raises(ValueError, match=r"longest=2, but .* more than 2"):
        initializers.ChronoLSTMBias(2)


@pytest.mark.parametrize("initializer", [initializers.ForgetGateBias(2.0), initializers.ChronoLSTMBias(9)])
def test_unit_forget_bias_may_not_cut_a_bias_of_all_gates_to_pieces(initializer):
    for make in (kseq.layers.LSTM, lambda *a, **k: kseq.layers.RNN(kseq.cells.LSTMCell(*a, **k))):
        with pytest.raises(ValueError, match=r"unit_forget_bias=True .* Pass unit_forget_bias=False"):
            make(8, bias_initializer=initializer)(X)
