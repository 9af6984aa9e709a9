"""Edit distance against a table filled in plain Python."""

import itertools
import json

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.metrics import CharacterErrorRate, EditDistance, WordErrorRate
from kseq.metrics.levenshtein import EditCounts, edit_counts
from tests.reference.edit_distance import edit_counts as slow_counts
from tests.support import BACKEND, compiled

compiled_counts = compiled(lambda *arguments: edit_counts(*arguments))


def random_batch(seed=0, rows=32, reference_time=9, hypothesis_time=11, classes=3):
    random = np.random.default_rng(seed)
    references = random.integers(0, classes, (rows, reference_time)).astype("int32")
    hypotheses = random.integers(0, classes, (rows, hypothesis_time)).astype("int32")
    lengths = [random.integers(0, time + 1, rows).astype("int32") for time in (reference_time, hypothesis_time)]
    return references, hypotheses, *lengths


def expected_counts(references, hypotheses, reference_lengths, hypothesis_lengths):
    return np.array(
        [
            slow_counts(references[row, : reference_lengths[row]].tolist(), hypotheses[row, :length].tolist())
            for row, length in enumerate(hypothesis_lengths)
        ]
    )


def padded(tokens, lengths, pad_id):
    return np.where(np.arange(tokens.shape[1]) < lengths[:, None], tokens, pad_id)


@pytest.mark.long
@pytest.mark.long_on_jax
def test_equals_the_table_compiled_and_not():
    batch = random_batch()
    expected = expected_counts(*batch)
    assert (expected > 0).any(axis=0).all()
    for count in (compiled_counts, edit_counts):
        np.testing.assert_array_equal(np.stack([np.asarray(x) for x in count(*batch)], axis=1), expected)


def test_every_pair_of_short_sequences():
    sequences = [s for n in range(4) for s in itertools.product(range(2), repeat=n)]
    pairs = list(itertools.product(sequences, repeat=2))
    tokens = [np.array([[*pair[side], 0, 0, 0][:3] for pair in pairs], "int32") for side in range(2)]
    lengths = [np.array([len(pair[side]) for pair in pairs], "int32") for side in range(2)]
    got = compiled_counts(*tokens, *lengths)
    expected = [slow_counts(*pair) for pair in pairs]
    np.testing.assert_array_equal(np.stack([np.asarray(x) for x in got], axis=1), expected)


@pytest.mark.parametrize(("reference_time", "hypothesis_time"), [(0, 3), (3, 0), (0, 0), (1, 1)])
def test_empty_sequences(reference_time, hypothesis_time):
    batch = random_batch(3, 4, reference_time, hypothesis_time)
    got = edit_counts(*batch)
    np.testing.assert_array_equal(np.stack([np.asarray(x) for x in got], axis=1), expected_counts(*batch))


def test_padding_changes_nothing_and_pad_ends_a_row():
    references, hypotheses, reference_lengths, hypothesis_lengths = random_batch(1)
    expected = expected_counts(references, hypotheses, reference_lengths, hypothesis_lengths).sum(0)
    metric = EditDistance(pad_id=9)
    metric.update_state(padded(references, reference_lengths, 9), padded(hypotheses, hypothesis_lengths, 9))
    np.testing.assert_array_equal([metric.insertions, metric.deletions, metric.substitutions], expected)
    metric.reset_state()
    metric.update_state(references, hypotheses, reference_lengths, hypothesis_lengths)
    np.testing.assert_array_equal([metric.insertions, metric.deletions, metric.substitutions], expected)


@pytest.mark.long
def test_is_exact_over_unequal_batches():
    batch = random_batch(2)
    edits, lengths = expected_counts(*batch).sum(1), batch[2]
    metric, plain = EditDistance(), EditDistance(normalize=False)
    assert float(metric.result()) == 0.0
    for rows in (slice(0, 1), slice(1, 20), slice(20, 32)):
        for one in (metric, plain):
            one.update_state(*(x[rows] for x in batch))
    np.testing.assert_allclose(metric.result(), edits.sum() / lengths.sum(), rtol=1e-6)
    np.testing.assert_allclose(plain.result(), edits.mean(), rtol=1e-6)
    assert float(metric.result()) != pytest.approx(np.mean(edits[lengths > 0] / lengths[lengths > 0]), rel=1e-3)
    metric.reset_state()
    weights = np.arange(32) / 32
    metric.update_state(*batch, sample_weight=weights)
    np.testing.assert_allclose(metric.result(), (weights * edits).sum() / (weights * lengths).sum(), rtol=1e-5)


@pytest.mark.long
def test_counts_in_a_compiled_step():
    import tensorflow as tf

    batch = random_batch(2, 8, 6, 5)
    metrics, eager = ([EditDistance(), WordErrorRate(separator=0)] for _ in range(2))
    counted = tf.function(lambda *arrays: [metric.update_state(*arrays) for metric in metrics], jit_compile=True)
    counted(*map(tf.constant, batch))
    for metric, other in zip(metrics, eager, strict=True):
        other.update_state(*batch)
        for variable, twin in zip(metric.variables, other.variables, strict=True):
            np.testing.assert_array_equal(variable, twin)


@pytest.mark.long
def test_shapes_may_be_unknown():
    import tensorflow as tf

    batch = random_batch(4, 8, 6, 5)
    specs = [tf.TensorSpec([None] * x.ndim, tf.int32) for x in batch]
    got = tf.function(edit_counts, input_signature=specs)(*batch)
    np.testing.assert_array_equal(np.stack(got, axis=1), expected_counts(*batch))


def test_texts_are_compared_by_characters_and_words():
    references, hypotheses = ["the cat sat", "", "Übung macht"], ["the cat sits down", "on", "Ubung macht"]
    characters, words = CharacterErrorRate(), WordErrorRate()
    for metric, split in ((characters, list), (words, str.split)):
        value = float(metric(references, hypotheses))
        pairs = [(split(a), split(b)) for a, b in zip(references, hypotheses, strict=True)]
        expected = np.array([slow_counts(*pair) for pair in pairs]).sum(0)
        np.testing.assert_array_equal([metric.insertions, metric.deletions, metric.substitutions], expected)
        assert value == pytest.approx(expected.sum() / sum(len(a) for a, _ in pairs))
    assert float(EditDistance()(np.array(references), np.array(hypotheses))) == pytest.approx(characters.result())
    assert float(EditDistance()([["a", "b"], [1]], [["a"], [1, 2, 3]])) == pytest.approx(3 / 3)


def test_string_tensors_are_texts():
    import tensorflow as tf

    assert float(WordErrorRate()(tf.constant(["ä b"]), tf.constant(["ä c"]))) == 0.5


def test_words_of_ids_are_compared_as_words():
    text = ["the cat sat", " the  cat ", "", "a bc", "ab c", "x"]
    other = ["the cat sits down", "the cat", "on", "ab c", "ab c", " "]
    ids = [[[ord(c) for c in t] + [-1] * (20 - len(t)) for t in texts] for texts in (text, other)]
    metric, expected = WordErrorRate(separator=ord(" ")), WordErrorRate()
    value = float(metric(np.array(ids[0]), np.array(ids[1])))
    assert value == pytest.approx(float(expected(text, other)))
    for variable, twin in zip(metric.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(variable, twin)
    every_id = WordErrorRate()
    assert float(every_id(np.array([[3, 4, 5]]), np.array([[3, 5, 5]]))) == pytest.approx(1 / 3)
    zeros = WordErrorRate(separator=9)  # id 0 is an ordinary letter, also at a word's beginning
    assert float(zeros(np.array([[0, 3, 9, 5]]), np.array([[3, 9, 5, -1]]))) == pytest.approx(1 / 2)


@pytest.mark.every_backend
def test_counts_while_a_model_is_evaluated():
    # The model returns its input, ids, so that the metric is compiled within the step.
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, keras.layers.Lambda(lambda x: x, dtype="int32")(inputs))
    model.compile(loss=lambda y, x: ops.zeros(()), metrics=[EditDistance(pad_id=0)], jit_compile=BACKEND == "jax")
    x, y = np.array([[1, 2, 3, 0], [1, 0, 0, 0], [2, 2, 0, 0]]), np.array([[1, 2, 0], [2, 0, 0], [2, 3, 2]])
    results = model.evaluate(x, y, batch_size=2, return_dict=True, verbose=0)
    assert results["edit_distance"] == pytest.approx(3 / 6)


@pytest.mark.parametrize("metric", [EditDistance(False, pad_id=3), CharacterErrorRate(), WordErrorRate(separator=2)])
def test_is_saved_and_loaded(metric):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(metric)
    assert again.get_config() == metric.get_config()


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"hypotheses must be token ids of shape .*have shape \(2, 1, 3\)"):
        EditDistance()(np.zeros((2, 3), "int32"), np.zeros((2, 1, 3), "int32"))
    with pytest.raises(ValueError, match="Got 2 references and 3 hypotheses"):
        EditDistance()(np.zeros((2, 3), "int32"), np.zeros((3, 3), "int32"))
    with pytest.raises(ValueError, match="Got 1 references and 2 hypotheses"):
        EditDistance()(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="20000 and hypotheses of 20000 tokens have 40000 together"):
        edit_counts(*[np.zeros((1, 20000), "int32")] * 2, *[np.zeros(1, "int32")] * 2)
    assert isinstance(kseq.metrics.levenshtein.edit_counts(*random_batch(rows=1)), EditCounts)
