"""The decoder with hard monotonic attention: its sum over alignments, its gradient, and what it refuses."""

import itertools

import keras
import numpy as np
import pytest

import kseq
from tests.support import BACKEND

VOCABULARY = 6
SOURCE = np.array([[6, 4, 6, 1], [7, 5, 4, 0]], "int32")
LENGTHS = np.array([4, 3], "int32")
TARGET = np.array([[2, 4, 5, 3], [2, 5, 3, 0]], "int32")
BATCH = {
    "source": SOURCE,
    "source_lengths": LENGTHS,
    "target": TARGET,
    "target_lengths": np.array([4, 3], "int32"),
}


def make_model(*, encoder_units=3, **options):
    keras.utils.set_random_seed(3)
    encoder = kseq.models.Encoder(8, 4, kseq.cells.GRUCell(encoder_units))
    decoder = kseq.models.HardMonotonicDecoder(VOCABULARY, 4, kseq.cells.GRUCell(5), **options)
    model = kseq.models.Seq2Seq(encoder, decoder)
    model.build()
    rng = np.random.default_rng(4)
    for weight in model.trainable_weights:  # far from 0, so that alignments differ
        weight.assign(1.5 * rng.normal(size=weight.shape))
    return model


def softmax(scores):
    return np.exp(scores - scores.max(-1, keepdims=True)) / np.exp(scores - scores.max(-1, keepdims=True)).sum(
        -1, keepdims=True
    )


def chosen(logits):
    """Return the probabilities of the targets' tokens, 1 in the padding."""
    found = np.take_along_axis(np.exp(np.asarray(logits, np.float64)), TARGET[:, 1:, None], axis=-1)[..., 0]
    return np.where(np.arange(3) < BATCH["target_lengths"][:, None] - 1, found, 1.0)


def probability(model, row):
    """Return the probability of a row's target: the sum over all alignments, one path at a time."""
    decoder, target = model.decoder, TARGET[row, : BATCH["target_lengths"][row]]
    source = SOURCE[row : row + 1, : LENGTHS[row]]
    encoded = model.encoder(source, LENGTHS[row : row + 1])
    values = np.asarray(encoded.values)[0]
    state = [np.asarray(each) for each in decoder.bridge(encoded.states, encoded.values, encoded.mask)]
    scores, tokens = [], []
    for token in target[:-1]:
        output, state = decoder.layers[0].cell(np.asarray(decoder.embedding.embeddings)[token][None], state)
        keys = decoder.attention.memory(np.asarray(encoded.values)).keys
        scores.append(np.asarray(decoder.attention.score(output[:, None], keys))[0, 0])
        pairs = np.concatenate([np.repeat(np.asarray(output), len(values), axis=0), values], axis=1)
        tokens.append(softmax(np.asarray(decoder.to_logits(decoder.combine(pairs)))))
    total = 0.0
    for path in itertools.combinations_with_replacement(range(len(values)), len(target) - 1):
        one, before = 1.0, 0
        for step, place in enumerate(path):
            ahead = scores[step][before:].astype(np.float64)
            if decoder.distances:
                distance = np.minimum(np.arange(len(ahead)), decoder.distances - 1)
                ahead = ahead + np.asarray(decoder.distance_scores)[distance]
            one *= softmax(ahead)[place - before] * tokens[step][place, target[step + 1]]
            before = place
        total += one
    return total


@pytest.mark.long
@pytest.mark.parametrize("distances", [0, 2, 8])
def test_a_targets_probability_is_the_sum_over_its_alignments(distances):
    model = make_model(distances=distances)
    logits = np.asarray(model(BATCH), np.float64)
    np.testing.assert_allclose(np.exp(logits).sum(-1), 1.0, atol=1e-5)
    for row, found in enumerate(chosen(logits).prod(axis=1)):
        np.testing.assert_allclose(found, probability(model, row), rtol=1e-4)


@pytest.mark.long
def test_steps_give_what_the_whole_sequence_gives():
    model = make_model(num_layers=2)
    whole, weights = (np.asarray(each) for each in model.decoder(
        TARGET[:, :-1], model.encoder(SOURCE, LENGTHS), return_weights=True
    ))  # fmt: skip
    state, memory = model.encode(SOURCE, LENGTHS)
    for step in range(2):  # the second row ends there
        output = model.decoder.step(TARGET[:, step], state, memory)
        np.testing.assert_allclose(np.asarray(output.logits), whole[:, step], atol=1e-5)
        np.testing.assert_allclose(np.asarray(output.alignments), weights[:, step], atol=1e-5)
        state = output.state
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-5)
    assert not weights[1, :, 3].any()  # padding


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.long_on_jax
def test_the_gradient_is_that_of_the_loss():
    model = make_model(distances=3)
    model.compile(keras.optimizers.SGD(1.0), run_eagerly=BACKEND == "tensorflow")
    weights = model.decoder.distance_scores, model.decoder.attention.weights[-1]
    before = [np.asarray(weight) for weight in weights]
    expected = []
    for weight, value in zip(weights, before, strict=True):
        direction = np.random.default_rng(0).normal(size=value.shape)
        losses = []
        for sign in (1, -1):
            weight.assign(value + sign * 1e-2 * direction)
            losses.append(-np.log(chosen(model(BATCH))).sum() / 5)  # tokens
        weight.assign(value)
        expected.append(((losses[0] - losses[1]) / 2e-2, direction))
    model.train_on_batch(BATCH)
    for weight, value, (slope, direction) in zip(weights, before, expected, strict=True):
        assert abs(slope) > 1e-3
        np.testing.assert_allclose(np.sum((value - np.asarray(weight)) * direction), slope, rtol=0.03)


def test_a_source_without_steps():
    model = make_model()
    empty = {**BATCH, "source": np.zeros((2, 0), "int32"), "source_lengths": np.zeros(2, "int32")}
    assert np.isfinite(np.asarray(model(empty))).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": "initial"}, "context='initial' and input_feeding=False, but"),
        ({"input_feeding": True}, "input_feeding=True, but"),
        ({"distances": -1}, "distances=-1, but"),
        ({"attention": kseq.attention.MonotonicAttention(4)}, "needs the scores alone"),
        ({"attention": kseq.attention.AdditiveAttention(4, dropout=0.5)}, "with dropout=0.5, but"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_model(**options)


def test_soft_samples_are_refused():
    decoder = make_model().decoder
    sampling = kseq.training.ScheduledSampling("constant", probability=0.3, samples="soft")
    with pytest.raises(ValueError, match=r"HardMonotonicDecoder has no \['step_embedded'\]. Use samples='hard'"):
        kseq.models.Seq2Seq(kseq.models.Encoder(8, 4, kseq.cells.GRUCell(3)), decoder, sampling=sampling)
