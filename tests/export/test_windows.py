"""Overlapping windows of long rows."""

import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.export.padding import Padding
from kseq.export.windows import Windows
from kseq.models.export_contract import RowInputs, StepInputs
from tests.export.test_saved_model import Session

INPUTS = {"tokens": StepInputs(dtype="int32"), "factor": RowInputs(dtype="int32", default=1)}


def padded(rows, buckets=(2, 4)):
    """Return rows of numbers as a request, checked and padded."""
    time = max(map(len, rows), default=0)
    tensors = {
        "tokens": tf.constant([[*row, *[99] * (time - len(row))] for row in rows], tf.int32, shape=(len(rows), time)),
        "lengths": tf.constant([len(row) for row in rows], tf.int32),
        "factor": tf.range(1, len(rows) + 1),
    }
    return Padding(INPUTS, buckets, "windows")(tensors, tf.fill([len(rows)], ""))


def steps_beside(tensors):
    """Return the tokens times the row's factor, and how many real steps of its window each one has on either side."""
    assert tensors["tokens"].shape[1] <= 4
    place, lengths = tf.range(tf.shape(tensors["tokens"])[1]), tensors["lengths"][:, None]
    before = tf.broadcast_to(place, tf.shape(tensors["tokens"]))
    return {
        "tokens": tensors["tokens"] * tensors["factor"][:, None],
        "beside": tf.stack([before, lengths - 1 - before], axis=-1),
    }


@pytest.mark.parametrize("longest", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 21])
@pytest.mark.parametrize("buckets", [(2, 4), (4,)])
def test_every_step_gets_the_answer_of_a_window_with_its_neighbours(longest, buckets):
    rows = [list(range(1, count + 1)) for count in (longest, 3, 0)]
    tensors, errors = padded(rows, buckets)
    assert not any(errors.numpy())
    answer = Windows(INPUTS, 4, fixed=len(buckets) == 1).answer(steps_beside, tensors)
    for index, row in enumerate(rows):
        assert answer["tokens"][index, : len(row)].numpy().tolist() == [(index + 1) * value for value in row]
        for place, (before, after) in enumerate(answer["beside"][index, : len(row)].numpy().tolist()):
            assert before >= min(place, 1), (index, place)
            assert after >= min(len(row) - 1 - place, 1), (index, place)


def test_windows_of_one_step_share_none():
    tensors, _ = padded([[5, 6, 7]], buckets=(1,))
    answer = Windows(INPUTS, 1, fixed=True).answer(steps_beside, tensors)
    assert answer["tokens"].numpy().tolist() == [[5, 6, 7]]


def test_inner_sequences_go_with_their_steps():
    inputs = {"words": StepInputs(dtype="int32"), "letters": StepInputs(dtype="int32", steps_of="words")}
    letters = np.arange(1, 15).reshape(1, 7, 2)
    request = {
        "words": tf.range(7)[None],
        "words_lengths": tf.constant([7]),
        "letters": tf.constant(letters, tf.int32),
        "letters_lengths": tf.constant([[2, 1, 2, 2, 1, 2, 2]]),
    }
    tensors, _ = Padding(inputs, (2, 4), "windows")(request, tf.constant([""]))

    def answer(windows):
        assert windows["letters"].shape[1] == windows["words"].shape[1] == 4
        return {"sums": tf.reduce_sum(windows["letters"], axis=2), "count": windows["letters_lengths"]}

    joined = Windows(inputs, 4).answer(answer, tensors)
    assert joined["count"][0, :7].numpy().tolist() == [2, 1, 2, 2, 1, 2, 2]
    real = np.arange(2) < np.array([2, 1, 2, 2, 1, 2, 2])[:, None]
    assert joined["sums"][0, :7].numpy().tolist() == (letters[0] * real).sum(axis=1).tolist()


@pytest.mark.server
@pytest.mark.long
def test_long_rows_are_decoded_as_a_whole(tmp_path):
    """The encoder reads single tokens, so windows change no logits, and the CRF's best sequence is that of the row."""
    encoder = kseq.models.Encoder(20, 4, kseq.cells.SimpleRNNCell(4), bidirectional=False)
    model = kseq.models.Tagger(encoder, 3, class_names=["O", "B-X", "I-X"], crf=True, scheme="BIO")
    model.build()
    random = np.random.default_rng(2)
    model.set_weights([2 * random.normal(size=weight.shape) for weight in model.get_weights()])
    encoder.layers[0].cell.recurrent_kernel.assign(np.zeros((4, 4)))
    options = {"buckets": (2, 4), "batch_sizes": (1,), "warmup": False, "verbose": False}
    folder = kseq.export_saved_model(model, tmp_path / "m", **options)
    tokens, lengths = random.integers(0, 20, (3, 23)), np.array([23, 9, 3])
    whole = np.asarray(model.decode(model({"source": tokens, "source_lengths": lengths}), lengths))
    for name in ("serving_default", "serving_xla"):
        answer = Session(folder, name)(tokens=tokens, lengths=lengths)
        for row, count in enumerate(lengths):
            names = [model.class_names[tag].encode() for tag in whole[row, :count]]
            assert answer["tags"][row].tolist() == names + [b""] * (answer["tags"].shape[1] - count)
