"""Mechanisms with a state in decoders, with and without input feeding."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.attention import (
    AdditiveAttention,
    CoverageAttention,
    LocalAttention,
    LocationSensitiveAttention,
    MonotonicAttention,
)
from tests.models.conftest import SOURCES, TARGETS

MECHANISMS = {
    "location": lambda: LocationSensitiveAttention(5, filters=2, kernel_size=3),
    "monotonic": lambda: MonotonicAttention(5),
    "local": lambda: LocalAttention(AdditiveAttention(5), 2),
    "predictive": lambda: LocalAttention(AdditiveAttention(5), 2, "predictive"),
    "coverage": lambda: CoverageAttention(LocalAttention(MonotonicAttention(5), 2)),
}
everywhere = pytest.mark.parametrize(
    ("mechanism", "input_feeding"), [(name, feeding) for feeding in (False, True) for name in MECHANISMS]
)


def make(mechanism, input_feeding):
    decoder = kseq.models.Decoder(
        TARGETS, 4, kseq.cells.GRUCell(5), attention=MECHANISMS[mechanism](), input_feeding=input_feeding
    )
    model = kseq.models.Seq2Seq(kseq.models.Encoder(SOURCES, 4, kseq.cells.GRUCell(3)), decoder)
    model.build()
    random = np.random.default_rng(1)  # with the small initial weights, attention is uniform
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("option", [{"causal": True}, {"positions": "rotary"}])
def test_attention_to_one_sequence_is_refused_at_once(option):
    attention = kseq.attention.MultiHeadAttention(2, 2, **option)
    with pytest.raises(ValueError, match=r"that of a decoder reads another one, the memory\. Leave causal"):
        kseq.models.Decoder(TARGETS, 4, kseq.cells.GRUCell(5), attention=attention)


@pytest.mark.long
@everywhere
def test_training_pass_equals_decoding_steps(mechanism, input_feeding, batch):
    model = make(mechanism, input_feeding)
    logits = np.asarray(model(batch))
    state, memory = model.encode(batch["source"], batch["source_lengths"])
    for time in range(6):
        step = model.step(ops.convert_to_tensor(batch["target"][:, time]), state, memory)
        state = step.state
        np.testing.assert_allclose(step.logits, logits[:, time], atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("mechanism", ["location", "coverage"])
def test_a_row_decoded_alone_equals_the_row_in_its_batch(mechanism, batch):
    model, search = make(mechanism, True), kseq.decoding.BeamSearch(beam_width=2)
    together = model.decode(batch["source"], batch["source_lengths"], strategy=search, max_length=4)
    for row in (1,):
        length = batch["source_lengths"][row]
        alone = model.decode(batch["source"][row : row + 1, :length], np.array([length]), strategy=search, max_length=4)
        np.testing.assert_array_equal(alone.tokens, np.asarray(together.tokens)[row : row + 1])
        np.testing.assert_allclose(alone.scores, np.asarray(together.scores)[row : row + 1], atol=1e-4)


@pytest.mark.long
@pytest.mark.server
@pytest.mark.parametrize(
    ("mechanism", "input_feeding"),
    [("location", False), ("monotonic", True), ("local", False), ("predictive", True), ("coverage", True)],
)
def test_trains_saves_loads_and_exports(mechanism, input_feeding, batch, tmp_path):
    model = make(mechanism, input_feeding)
    model.compile("adam")
    before = model.get_weights()
    assert np.isfinite(model.fit(batch, batch_size=5, epochs=2, verbose=0).history["loss"]).all()
    still = [w.path for w, value in zip(model.weights, before, strict=True) if np.allclose(w, value, atol=1e-7)]
    assert not still, "weights that no gradient reaches"
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    source, lengths = batch["source"][:2], batch["source_lengths"][:2]
    search = kseq.decoding.BeamSearch(beam_width=2)
    decoded = model.decode(source, lengths, strategy=search, max_length=4)
    np.testing.assert_array_equal(loaded.decode(source, lengths, strategy=search, max_length=4).tokens, decoded.tokens)
    sizes = {"buckets": (12,), "batch_sizes": (2,), "max_length": 4, "warmup": False}
    folder = kseq.export_saved_model(loaded, tmp_path / "served", strategy=search, inputs="tokens", **sizes)
    for name in ("serving_default", "serving_xla"):
        served = kseq.load_saved_model(folder, signature_name=name)(tokens=source, lengths=lengths)
        np.testing.assert_array_equal(served["tokens"], decoded.tokens)


@pytest.mark.server
def test_the_compiled_loop_of_input_feeding_has_the_eager_gradients(batch):
    """In a graph of unknown sizes, which are padded."""
    import tensorflow as tf

    model = make("location", True)

    def gradients(inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(inputs, training=True)))
        return tape.gradient(loss, model.trainable_weights)

    shapes = {name: tf.TensorSpec([None] * value.ndim, "int32") for name, value in batch.items()}
    graph = tf.function(gradients, input_signature=[shapes], autograph=False)
    expected = [np.asarray(tf.convert_to_tensor(g)) for g in gradients(batch)]
    with kseq.config.jit_compile_scope(True):
        got = [np.asarray(tf.convert_to_tensor(g)) for g in graph(batch)]
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3, rtol=1e-3)
