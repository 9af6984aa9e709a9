"""Scheduled sampling: its schedules, the share of samples, and training by it."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.models.objectives.scheduled_sampling import drawn_inputs
from kseq.training import ScheduledSampling
from tests.models.conftest import SOURCES, TARGETS
from tests.support import BACKEND

SCHEDULES = {
    "constant": ScheduledSampling("constant", probability=0.4),
    "linear": ScheduledSampling("linear", initial=0.1, probability=0.5, steps=4),
    "exponential": ScheduledSampling("exponential", k=0.5, probability=0.8),
    "inverse_sigmoid": ScheduledSampling("inverse_sigmoid", k=2.0),
}


def make_model(sampling=None, cell=kseq.cells.SimpleRNNCell, **decoder):
    encoder = kseq.models.Encoder(SOURCES, 4, cell(5))
    model = kseq.models.Seq2Seq(encoder, kseq.models.Decoder(TARGETS, 4, cell(5), **decoder), sampling=sampling)
    model.build()
    random = np.random.default_rng(1)
    for weights in (*model.encoder.weights, *model.decoder.weights):
        weights.assign(0.7 * random.normal(size=weights.shape))
    return model


def gradients_of(model, batch):
    """Return the loss and the gradients of a step as `fit` computes them: in a graph."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, None, model(batch, training=True))
        return loss, [tf.convert_to_tensor(each) for each in tape.gradient(loss, model.trainable_variables)]

    loss, gradients = step()
    return [np.asarray(each) for each in (loss, *gradients)]


def test_the_schedules_are_those_of_the_paper():
    steps = np.arange(6)
    epsilon = 2 / (2 + np.exp(steps / 2))  # the probability of a true token
    expected = {
        "constant": np.full(6, 0.4),
        "linear": [0.1, 0.2, 0.3, 0.4, 0.5, 0.5],
        "exponential": np.minimum(1 - 0.5**steps, 0.8),
        "inverse_sigmoid": 1 - epsilon,
    }
    for name, sampling in SCHEDULES.items():
        got = [float(sampling.probability_at(step)) for step in steps]
        np.testing.assert_allclose(got, expected[name], rtol=1e-5, err_msg=name)
    assert float(SCHEDULES["inverse_sigmoid"].probability_at(1e6)) == 1.0


@pytest.mark.long
def test_the_share_of_samples_follows_the_schedule():
    """The decoder always predicts token 9, which is in no target, so that samples can be counted."""
    model = make_model(SCHEDULES["linear"])
    model.decoder.to_logits.bias.assign(np.where(np.arange(TARGETS) == 9, 1e3, 0.0))
    tokens = np.where(np.arange(5) == 0, 2, np.full((3000, 5), 4)).astype("int32")
    encoded = model.encoder(np.ones((3000, 2), "int32"), np.full(3000, 2))
    for probability in (0.1, 0.2, 0.3, 0.4, 0.5, 0.5):
        drawn = np.asarray(model.sampler.draw(model.decoder, tokens, encoded)["tokens"])
        assert {*np.unique(drawn)} == {2, 4, 9}
        assert (drawn[:, 0] == 2).all()
        share = (drawn[:, 1:] == 9).mean()
        assert abs(share - probability) < 4 * np.sqrt(probability * (1 - probability) / drawn[:, 1:].size)
    assert float(model.sampler.steps) == 6


@pytest.mark.long
@pytest.mark.parametrize(
    ("samples", "decoder"),
    [
        ("hard", {}),
        pytest.param("soft", {"input_feeding": True}, marks=pytest.mark.slow),
        pytest.param("hard", {"input_feeding": True}, marks=pytest.mark.slow),
        pytest.param("soft", {}, marks=pytest.mark.slow),
        pytest.param("hard", {"context": "every_step"}, marks=pytest.mark.slow),
    ],
)
def test_at_probability_0_the_step_is_teacher_forcing_bit_by_bit(samples, decoder, batch):
    sampled = make_model(ScheduledSampling("constant", probability=0.0, samples=samples), **decoder)
    plain = make_model(**decoder)
    for model in (sampled, plain):
        model.compile("sgd")
    for got, expected in zip(gradients_of(sampled, batch), gradients_of(plain, batch), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.long
def test_samples_are_read_in_training_alone(batch):
    always, plain = make_model(ScheduledSampling()), make_model()
    assert np.abs(np.asarray(always(batch, training=True)) - np.asarray(plain(batch, training=True))).max() > 1e-2
    np.testing.assert_array_equal(always(batch), plain(batch))


def test_samples_have_the_probabilities_of_the_step_before():
    """With all inputs drawn, the pairs of the first two samples have the model's own joint probability."""
    model, rows = make_model(), 4000
    logits = model.decoder.to_logits
    logits.set_weights([np.r_["0", logits.get_weights()[0]], np.where(np.arange(TARGETS) < 3, 0.0, -1e3)])
    encoded = model.encoder(np.ones((rows, 2), "int32"), np.full(rows, 2))._replace(tokens=np.ones((rows, 2), "int32"))
    tokens = np.full((rows, 3), 2, "int32")
    numbers = np.random.default_rng(0).random((3, rows)).astype("float32")
    replaced = np.array([[False], [True], [True]]) & np.ones((3, rows), bool)
    for temperature in (1.0, 2.0):
        drawn = np.asarray(drawn_inputs(model.decoder, tokens, encoded, replaced, numbers, temperature))
        counts = np.zeros((3, 3))
        np.add.at(counts, (drawn[:, 1], drawn[:, 2]), 1)
        few = keras.tree.map_structure(lambda x: x[:1], encoded)
        expected = np.zeros((3, 3))
        for first in range(3):
            state, memory = model.decoder.initial_state(few), model.decoder.memory(few)
            one = model.decoder.step(np.array([2]), state, memory)
            two = model.decoder.step(np.array([first]), one.state, memory)
            p, q = (np.asarray(ops.softmax(x.logits / temperature))[0, :3] for x in (one, two))
            expected[first] = p[first] * q
        np.testing.assert_allclose(counts / rows, expected, atol=0.03)
        assert np.ptp(expected) > 0.1


@pytest.mark.long
@pytest.mark.parametrize("decoder", [{}, pytest.param({"input_feeding": True}, marks=pytest.mark.slow)])
def test_soft_samples_are_expected_embeddings_with_their_gradient(decoder, batch):
    """The gradient of the two passes is that of one loop, written out here."""
    import tensorflow as tf

    model = make_model(ScheduledSampling(samples="soft", temperature=0.5), **decoder)
    model.compile("sgd")
    got = gradients_of(model, batch)
    with tf.GradientTape() as tape:
        encoded = model.encoder(batch["source"], batch["source_lengths"])
        state, memory = model.decoder.initial_state(encoded), model.decoder.memory(encoded)
        inputs, logits = model.decoder.embedding(batch["target"][:, 0]), []
        for _ in range(6):
            output = model.decoder.step_embedded(inputs, state, memory)
            state = output.state
            logits.append(output.logits)
            inputs = tf.nn.softmax(output.logits / 0.5) @ model.decoder.embedding.embeddings
        loss = model.compute_loss(batch, None, tf.stack(logits, 1))
    expected = tape.gradient(loss, model.trainable_variables)
    np.testing.assert_allclose(got[0], loss, rtol=1e-5)
    for one, other in zip(got[1:], expected, strict=True):
        np.testing.assert_allclose(one, tf.convert_to_tensor(other), atol=1e-5)


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("samples", "xla"),
    [
        ("hard", BACKEND == "jax"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in [("hard", True), ("soft", True)]),
    ],
)
def test_fit_in_compiled_steps_counts_them_and_is_resumed(samples, xla, batch, tmp_path):
    model = make_model(ScheduledSampling("linear", steps=8, samples=samples, seed=3))
    model.compile(keras.optimizers.Adam(0.01), jit_compile=xla, run_eagerly=not xla)
    history = model.fit(batch, batch_size=5, epochs=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert history["loss"][-1] < history["loss"][0]
    assert float(model.sampler.steps) == 3
    model.evaluate(batch, batch_size=5, verbose=0)
    assert float(model.sampler.steps) == 3
    if BACKEND == "jax":
        return
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.sampling == model.sampling
    assert float(loaded.sampler.steps) == 3
    np.testing.assert_array_equal(loaded(batch), model(batch))


@pytest.mark.long
def test_half_precision_counts_and_trains(batch):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = make_model(ScheduledSampling(samples="soft"))
    finally:
        keras.config.set_dtype_policy("float32")
    model.sampler.steps.assign(1000.0)  # bfloat16 has no 1001
    model.compile("adam", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(batch)).all()
    assert float(model.sampler.steps) == 1001


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"probability": 1.5}, "probability=1.5, but a probability is between 0 and 1"),
        ({"schedule": "linear", "steps": 3, "initial": -0.1}, "initial=-0.1, but a probability"),
        ({"schedule": "linear", "steps": 3, "initial": 0.5, "probability": 0.2}, "initial=0.5 is above"),
        ({"schedule": "linear"}, "'linear' needs steps"),
        ({"schedule": "linear", "steps": 0}, "steps=0, but it must be at least 1"),
        ({"schedule": "exponential", "k": 1.1}, "k=1.1, but 1 - k"),
        ({"schedule": "inverse_sigmoid", "k": 0.5}, "k=0.5, but an inverse sigmoid"),
        ({"schedule": "constant", "k": 0.5}, "k=0.5 was given, which schedule='constant' does not have"),
        ({"schedule": "cosine"}, "schedule='cosine'"),
        ({"samples": "argmax"}, "samples='argmax'"),
        ({"temperature": 0.0}, "temperature=0.0, but it must be above 0"),
        ({"probability": float("nan")}, "probability must be a finite number"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        ScheduledSampling(**options)


def test_decoders_that_cannot_be_sampled_are_refused():
    class Plain(keras.layers.Layer):
        """A decoder that has a step, but none for embeddings."""

        vocabulary_size = TARGETS

        def initial_state(self, encoded):
            return ()

        memory = step = initial_state

    encoder = kseq.models.Encoder(SOURCES, 4, kseq.cells.GRUCell(5))
    assert kseq.models.Seq2Seq(encoder, Plain(), sampling=ScheduledSampling()).sampler is not None
    with pytest.raises(ValueError, match=r"Plain has no \['embedding', 'step_embedded'\]. Use samples='hard'"):
        kseq.models.Seq2Seq(encoder, Plain(), sampling=ScheduledSampling(samples="soft"))
    with pytest.raises(ValueError, match=r"sampling=0.25, but it must be a kseq\.training"):
        kseq.models.Seq2Seq(encoder, Plain(), sampling=0.25)
