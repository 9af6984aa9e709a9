"""Minimum-risk training against the enumeration of all outputs."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.training import MinimumRisk
from tests.reference.edit_distance import edit_counts
from tests.support import BACKEND

IDS, MOST = 5, 3  # tokens 1 and 4 write; outputs have at most 3 tokens, the end included


def make_model(minimum_risk=None, **decoder):
    cell = kseq.cells.SimpleRNNCell(4)
    encoder = kseq.models.Encoder(IDS, 3, cell, bidirectional=False)
    model = kseq.models.Seq2Seq(
        encoder, kseq.models.Decoder(IDS, 3, cell, **decoder), minimum_risk=minimum_risk, pad_id=0
    )
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([0.8 * random.normal(size=weight.shape) for weight in model.get_weights()])
    bias = model.decoder.to_logits.bias
    bias.assign(np.where(np.isin(np.arange(IDS), (0, 2)), -1e4, np.asarray(bias)))
    model.compile("sgd", run_eagerly=True)
    return model


@pytest.fixture
def batch():
    return {
        "source": np.array([[1, 4, 1], [4, 4, 0], [3, 0, 0]], "int32"),
        "source_lengths": np.array([3, 2, 1], "int32"),
        "target": np.array([[2, 1, 4, 3], [2, 4, 3, 0], [2, 3, 0, 0]], "int32"),
        "target_lengths": np.array([4, 3, 2], "int32"),
    }


def outputs():
    """Return every output of at most `MOST` tokens: those that end, and those that are cut."""
    ended = [(*text, 3) for size in range(MOST) for text in itertools.product((1, 4), repeat=size)]
    return ended + list(itertools.product((1, 4), repeat=MOST))


def expected_risk(model, batch, sharpness, risk):
    """Return the mean over rows of the expected risk over every output, differentiable."""
    every = outputs()
    tokens, lengths = np.zeros((3, len(every), MOST), "int32"), np.array([[len(text) for text in every]] * 3)
    risks = np.zeros((3, len(every)), "float32")
    for place, text in enumerate(every):
        tokens[:, place, : len(text)] = text
        for row in range(3):
            target = batch["target"][row, 1 : batch["target_lengths"][row] - 1]
            edits = sum(edit_counts(target, [token for token in text if token != 3]))
            risks[row, place] = edits / max(len(target), 1) if risk == "edit_distance" else edits > 0
    logs = kseq.sequence_log_probability(model, (batch["source"], batch["source_lengths"]), (tokens, lengths))
    return ops.mean(ops.sum(ops.softmax(sharpness * logs, axis=1) * risks, axis=1))


@pytest.mark.long
@pytest.mark.parametrize(
    ("sharpness", "risk", "decoder"),
    [
        (1.0, "edit_distance", {}),
        pytest.param(0.3, "sequence_error", {"input_feeding": True}, marks=pytest.mark.slow),
    ],
)
def test_with_all_outputs_it_is_the_expected_risk_and_its_gradient(sharpness, risk, decoder, batch):
    import tensorflow as tf

    options = {"num_candidates": len(outputs()), "sharpness": sharpness, "risk": risk}
    model = make_model(MinimumRisk(0.6, **options), **decoder)
    plain = make_model(**decoder)
    with tf.GradientTape(persistent=True) as tape:
        loss = model.compute_loss(batch, None, model(batch))
        compiled = plain.compute_loss(batch, None, plain(batch))
        expected = 0.4 * compiled + 0.6 * expected_risk(plain, batch, sharpness, risk)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    got, wanted = (
        [tf.convert_to_tensor(g) for g in tape.gradient(of, weights.trainable_variables)]
        for of, weights in ((loss, model), (expected, plain))
    )
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.long
def test_the_target_and_repeated_samples_count_once(batch):
    """So many samples have every output of a row, and the loss of each of them counts once."""
    drawn = MinimumRisk(1.0, num_candidates=400, candidates="sampling", sharpness=0.5, seed=3)
    best = MinimumRisk(1.0, num_candidates=len(outputs()), sharpness=0.5)
    losses = []
    for options in (drawn, best):
        model = make_model(options)
        model.decoder.to_logits.kernel.assign(0.1 * model.decoder.to_logits.kernel)  # all outputs are probable
        losses.append(float(model.compute_loss(batch, None, model(batch))))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


@pytest.mark.every_backend
@pytest.mark.parametrize(
    "candidates",
    [
        pytest.param("sampling", marks=pytest.mark.long if BACKEND == "jax" else pytest.mark.slow),
        pytest.param("beam", marks=pytest.mark.slow),
    ],
)
def test_fit_lowers_the_risk_in_a_compiled_step(candidates, batch, tmp_path):
    options = MinimumRisk(1.0, num_candidates=3, candidates=candidates, max_length=MOST)
    model = make_model(options)
    model.compile(keras.optimizers.Adam(0.03), jit_compile=BACKEND == "jax")
    before = float(expected_risk(model, batch, 1.0, "edit_distance"))
    model.fit(batch, batch_size=3, epochs=12, verbose=0)
    assert float(expected_risk(model, batch, 1.0, "edit_distance")) < 0.9 * before
    if BACKEND == "tensorflow":
        model.save(tmp_path / "model.keras")
        assert keras.saving.load_model(tmp_path / "model.keras").minimum_risk == options


@keras.saving.register_keras_serializable(package="tests")
def length_difference(references, reference_lengths, hypotheses, hypothesis_lengths):
    return ops.abs(reference_lengths - hypothesis_lengths)


@pytest.mark.long
def test_a_function_of_ones_own(batch):
    options = MinimumRisk(1.0, num_candidates=len(outputs()), risk=length_difference)
    assert MinimumRisk.from_config(options.get_config()) == options
    model = make_model(options)
    assert 0 < float(model.compute_loss(batch, None, model(batch))) < 2


@pytest.mark.long
def test_rows_of_length_0_have_no_part_in_the_mean(batch):
    model = make_model(MinimumRisk(1.0, num_candidates=2))
    padded = {name: np.concatenate([value, np.zeros_like(value[:2])]) for name, value in batch.items()}
    losses = [float(model.compute_loss(inputs, None, model(inputs))) for inputs in (batch, padded)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0] > 0.05


def traced(model, batch):
    """Return the loss as a function of tensors whose sizes are unknown."""
    import tensorflow as tf

    specs = {name: tf.TensorSpec([None] * value.ndim, tf.int32) for name, value in batch.items()}
    run = tf.function(lambda x: model.compute_loss(x, None, model(x, training=True)), [specs], autograph=False)
    return run.get_concrete_function()


@pytest.mark.long
def test_without_a_known_number_of_columns_max_length_is_needed(batch):
    with pytest.raises(ValueError, match=r"MinimumRisk needs max_length=\.\.\."):
        traced(make_model(MinimumRisk(1.0)), batch)


@pytest.mark.slow
def test_with_max_length_no_size_need_be_known(batch):
    """The first two targets are too long to be candidates."""
    import tensorflow as tf

    model = make_model(MinimumRisk(1.0, max_length=1))
    loss = traced(model, batch)(tf.nest.map_structure(tf.constant, batch))
    np.testing.assert_allclose(loss, model.compute_loss(batch, None, model(batch)), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": 2}, r"weight=2.0, but it is a share"),
        ({"num_candidates": 0}, r"num_candidates=0, but it must be at least 1"),
        ({"max_length": 0}, r"max_length=0, but it must be at least 1"),
        ({"candidates": "greedy"}, r"candidates='greedy', but it must be"),
        ({"sharpness": 0}, r"sharpness=0.0, but it must be above 0"),
        ({"risk": "bleu"}, r"risk='bleu', but it must be one of"),
        ({"seed": 3}, r"seed=3 was given, but a beam search draws nothing"),
        ({"num_candidates": 1, "include_target": False}, r"leaves one candidate"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MinimumRisk(**options)
