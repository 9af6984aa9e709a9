"""Tests of the bridges from an encoder's output to a decoder's initial states."""

import keras
import numpy as np
import pytest

import kseq
from kseq.models import Bridge, Decoder, Encoded

SIZES = [3, 2]
MASK = np.array([[True, True, False], [True, False, False], [False, False, False]])


@pytest.fixture
def encoded():
    random = np.random.default_rng(0)
    values = np.where(MASK[..., None], random.normal(size=(3, 3, 4)), np.nan)
    states = tuple(random.normal(size=(3, size)).astype("float32") for size in SIZES)
    return Encoded(values.astype("float32"), MASK, states)


def expected(kind, encoded, weights):
    """Return the joined initial states by their equations."""
    states = np.concatenate(encoded.states, axis=-1)
    values = np.nan_to_num(encoded.values)
    lengths = MASK.sum(axis=1)
    read = {
        "copy": states,
        "zero": np.zeros_like(states),
        "dense": states,
        "last": np.stack([values[row, length - 1] * (length > 0) for row, length in enumerate(lengths)]),
        "mean": values.sum(axis=1) / np.maximum(lengths, 1)[:, None],
    }[kind]
    return np.tanh(read @ weights[0] + weights[1]) if weights else read


@pytest.mark.parametrize("kind", ["dense", "copy", "zero", "last", "mean"])
def test_equals_its_equation(kind, encoded):
    bridge = Bridge(SIZES, kind)
    states = bridge(encoded.states, encoded.values, encoded.mask)
    assert [state.shape for state in states] == [(3, size) for size in SIZES]
    assert bool(bridge.get_weights()) == (kind in ("dense", "last", "mean"))
    joined = np.concatenate([np.asarray(state) for state in states], axis=-1)
    np.testing.assert_allclose(joined, expected(kind, encoded, bridge.get_weights()), rtol=1e-5, atol=1e-6)


def _model(bridge, **options):
    encoder = kseq.models.Encoder(9, 4, kseq.cells.LSTMCell(3), bidirectional=False)
    return kseq.models.Seq2Seq(encoder, Decoder(9, 4, kseq.cells.LSTMCell(3), bridge=bridge, **options))


@pytest.mark.long
@pytest.mark.parametrize("bridge", ["copy", Bridge([3, 3], "last")])
def test_trains_saves_and_loads_in_a_model(bridge, tmp_path):
    model = _model(bridge)
    inputs = {"source": [[1, 2], [3]], "target": [[2, 4, 3], [2, 3]]}
    model.compile("adam", run_eagerly=True)
    model.train_on_batch(inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    config = loaded.decoder.get_config()["bridge"]
    assert config == bridge if isinstance(bridge, str) else config["config"]["kind"] == "last"
    np.testing.assert_array_equal(loaded.predict(inputs, verbose=0), model.predict(inputs, verbose=0))


def test_an_older_config_has_the_dense_bridge():
    config = Decoder(9, 4, kseq.cells.GRUCell(3)).get_config()
    assert config.pop("bridge") == "dense"
    assert Decoder.from_config(config).bridge.kind == "dense"


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"The bridge is 'sum', but it must be one of \['dense', 'copy'"):
        _model("sum")
    with pytest.raises(ValueError, match=r"The bridge has sizes=\[3\], but the states of the decoder have \[3, 3\]"):
        _model(Bridge([3]))
    with pytest.raises(ValueError, match=r"or a kseq\.models\.Bridge"):
        _model(keras.layers.Dense(3))
    with pytest.raises(ValueError, match="nothing of the source"):
        _model("zero", context="initial")
    with pytest.raises(ValueError, match=r"the encoder's have \[3, 3\] units and the decoder's \[3, 3, 3, 3\]"):
        _model("copy", num_layers=2).build()
    with pytest.raises(ValueError, match="reads the encoder's values, but none are given"):
        Bridge([3], "mean")((np.zeros((2, 3), "float32"),))
