"""Batches of rows of similar length."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.models.fit_reports import CompilationReport

SOURCE = [[1] * length for length in (1, 9, 3, 8, 2, 7, 4, 12)]
TARGET = [[row] for row in range(8)]


def make(**options):
    buckets = {"source": (4, 8, 16), "target": (1,)}
    return kseq.training.bucket_by_length(
        {"source": SOURCE, "target": TARGET}, batch_size=2, buckets=buckets, bos_id=None, eos_id=None, **options
    )


def rows(dataset):
    batches = [{name: value.numpy() for name, value in batch.items()} for batch in dataset]
    real = [(b["source_lengths"][i], b["target"][i, 0]) for b in batches for i in range(2) if b["target_lengths"][i]]
    return batches, real


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_comes_once_in_its_bucket(shuffle):
    batches, real = rows(make(shuffle=shuffle, seed=1))
    assert sorted(real) == sorted((len(s), t[0]) for s, t in zip(SOURCE, TARGET, strict=True))
    assert len(batches) == len(make()) == 4
    for batch in batches:
        assert batch["source"].shape in {(2, 4), (2, 8), (2, 16)}
        assert batch["source_lengths"].max() <= batch["source"].shape[1]
        for row, length in zip(batch["source"], batch["source_lengths"], strict=True):
            assert row.tolist() == [1] * length + [0] * (len(row) - length)


def test_shuffling_changes_from_epoch_to_epoch_and_is_seeded():
    dataset = make(shuffle=True, seed=3)
    orders = [[t for _, t in rows(dataset)[1]] for _ in range(4)]
    assert len({tuple(order) for order in orders}) > 1
    again = make(shuffle=True, seed=3)
    assert [[t for _, t in rows(again)[1]] for _ in range(4)] == orders


def test_the_end_of_an_epoch_waits_for_no_tuner():
    """TensorFlow's tuner sometimes misses the end of its iterator, and sleeps on."""
    assert make().options().autotune.enabled is False


def test_bad_input():
    with pytest.raises(ValueError, match=r"source\[1\] has 9 tokens, but the largest bucket holds 8"):
        kseq.training.bucket_by_length({"source": SOURCE[:2]}, batch_size=2, buckets=[8])
    with pytest.raises(ValueError, match=r"the same number of sequences.*\{'source': 8, 'target': 3\}"):
        kseq.training.bucket_by_length({"source": SOURCE, "target": TARGET[:3]}, batch_size=2, buckets=[16])
    with pytest.raises(ValueError, match=r"source\[1\]\[2\] = 30 is not a token id: the vocabulary has ids 0 to 29"):
        kseq.training.bucket_by_length(
            {"source": [[1], [2, 3, 30]]}, batch_size=2, buckets=[4], vocabulary_sizes={"source": 30}
        )
    with pytest.raises(ValueError, match=r"buckets of source=\[16, 8\] must be increasing"):
        kseq.training.bucket_by_length({"source": SOURCE}, batch_size=2, buckets=(16, 8))
    with pytest.raises(ValueError, match=r"buckets for \['source'\], but none for \['target'\]"):
        kseq.training.bucket_by_length({"source": SOURCE, "target": TARGET}, batch_size=2, buckets={"source": (16,)})
    with pytest.raises(ValueError, match="at least 1"):
        kseq.training.bucket_by_length({"source": []}, batch_size=2, buckets=[16])
    with pytest.raises(ValueError, match=r"vocabulary sizes for \['sorce'\], but the sequences are \['source'\]"):
        kseq.training.bucket_by_length({"source": SOURCE}, batch_size=2, buckets=[16], vocabulary_sizes={"sorce": 9})
    with pytest.raises(ValueError, match=r"buckets for \['target'\], but the sequences are \['source'\]"):
        kseq.training.bucket_by_length({"source": SOURCE}, batch_size=2, buckets={"source": [16], "target": [4]})
    with pytest.raises(ValueError, match=r"source\[0\] has shape \(\), but a row is a list of token ids"):
        kseq.training.bucket_by_length({"source": [1, 2]}, batch_size=2, buckets=[16])
    with pytest.raises(ValueError, match=r"tags\[1\] has 1 values, but source\[1\] has 2"):
        kseq.training.bucket_by_length({"source": [[4], [4, 5]], "tags": [[1], [1]]}, batch_size=2, buckets=[4])
    for sizes in ({"batch_size": 0}, {"batch_size": 2.5}, {"buckets": [8.5]}):
        with pytest.raises(ValueError, match="must be increasing integers of at least 1"):
            kseq.training.bucket_by_length({"source": [[1]]}, **{"batch_size": 2, "buckets": [8], **sizes})


def test_ragged_tensors_and_numpy_scalars():
    lists, ragged = (
        next(iter(kseq.training.bucket_by_length({"source": x}, batch_size=np.int64(2), buckets=np.array([4]))))
        for x in ([[1, 2], [3]], tf.ragged.constant([[1, 2], [3]]))
    )
    np.testing.assert_array_equal(lists["source"], ragged["source"])


@pytest.mark.parametrize("target", [[5, 3], [2, 5], [3], []])
def test_targets_begin_with_bos_and_end_with_eos(target):
    rows, options = {"source": [[1], [1]], "target": [[2, 4, 3], target]}, {"batch_size": 2, "buckets": [4]}
    with pytest.raises(ValueError, match=r"target\[1\] is .* begins with the token 2 \(bos\) and ends with 3 \(eos\)"):
        kseq.training.bucket_by_length(rows, **options)
    kseq.training.bucket_by_length(rows, bos_id=None, eos_id=None, **options)
    rows["target"] = [[7, 3, 8], [7, 8]]
    kseq.training.bucket_by_length(rows, bos_id=7, eos_id=8, **options)


def test_each_new_shape_is_reported_once(capsys):
    dataset, compiled = make(shuffle=True, seed=4), set()
    for fit in range(2):
        report = CompilationReport(dataset.shapes, compiled)
        for epoch in range(2):
            report.on_epoch_begin(epoch)
            batches = iter(dataset)
            for batch in range(4):
                report.on_train_batch_begin(batch)
                next(batches)
        printed = [line for line in capsys.readouterr().out.splitlines() if line]
        assert printed[:1] == (["compiling shape 1 of 3"] if fit == 0 else [])
        assert [line.split(":")[0] for line in printed] == [f"compiling shape {n} of 3" for n in (1, 2, 3)][
            : len(printed)
        ]
        assert len(printed) == (3 if fit == 0 else 0)


def test_pairs_of_texts_have_begin_and_end_tokens_once():
    source = kseq.text.CharacterTokenizer(["a", "b"])
    target = kseq.text.CharacterTokenizer(["a", "b"], add_bos=True, add_eos=True)
    rows = kseq.training.text_pairs(source, target, ["ab", ""], ["b", "ba"])
    assert rows == {"source": [[4, 5], []], "target": [[2, 5, 3], [2, 5, 4, 3]]}
    kseq.training.bucket_by_length(rows, batch_size=2, buckets=[4])
    with pytest.raises(ValueError, match="There are 2 sources and 1 targets"):
        kseq.training.text_pairs(source, target, ["ab", "b"], ["b"])
    with pytest.raises(ValueError, match="sources is the single text 'ab'"):
        kseq.training.text_pairs(source, target, "ab", ["b", "a"])


class TestTaggedWords:
    """Rows of a tagger from words and names of tags."""

    NAMES = ("NOUN", "VERB")
    WORDS, TAGS = [["b", "a"], ["a"]], [["NOUN", "VERB"], ["VERB"]]

    def test_has_one_id_and_one_tag_for_each_word(self):
        words, letters = kseq.text.WordTokenizer(["a", "b"], add_eos=True), kseq.text.CharacterTokenizer(["a", "b"])
        rows = kseq.training.tagged_words(words, self.NAMES, self.WORDS, self.TAGS, character_tokenizer=letters)
        assert rows == {"source": [[5, 4], [4]], "tags": [[0, 1], [1]], "characters": [[[5], [4]], [[4]]]}
        del rows["characters"]
        kseq.training.bucket_by_length(rows, batch_size=2, buckets=[4])
        encoder = kseq.models.Encoder(6, 4, kseq.cells.GRUCell(4))
        model = kseq.models.Tagger(encoder, 2, source_tokenizer=words, class_names=self.NAMES)
        rows = kseq.training.tagged_words(model.source_tokenizer, model.class_names, self.WORDS, self.TAGS)
        model.compile("adam", run_eagerly=True)
        model.train_on_batch(rows)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"words": WORDS[:1]}, "There are 1 sentences of words and 2 of tags"),
            ({"words": [], "tags": []}, "at least one"),
            ({"tags": [["NOUN"], ["VERB"]]}, r"tags\[0\] has 1 values, but words\[0\] has 2"),
            ({"tags": [["NOUN", "VREB"], ["VERB"]]}, r"tags\[0\]\[1\] is 'VREB', which .* Did you mean 'VERB'\?"),
            ({"words": [["b", "a"], []], "tags": [["NOUN", "VERB"], []]}, r"words\[1\] has no words"),
            ({"words": ["b a", "a"]}, r"words\[0\] is the text 'b a', but expected a list of strings"),
            ({"tags": "NOUN"}, "tags is the text 'NOUN'"),
            ({"words": [["b", "a b"], ["a"]]}, "The word 'a b' is 2 tokens"),
            ({"words": [["b", ""], ["a"]]}, "The word '' is 0 tokens"),
            ({"class_names": ["NOUN", "NOUN"]}, "class_names must be a list of different names"),
        ],
    )
    def test_says_what_is_wrong(self, wrong, message):
        call = {"class_names": self.NAMES, "words": self.WORDS, "tags": self.TAGS, **wrong}
        with pytest.raises(ValueError, match=message):
            kseq.training.tagged_words(kseq.text.WordTokenizer(["a", "b"]), **call)


@pytest.mark.long
def test_fit_knows_the_number_of_batches_in_its_first_epoch():
    steps = []

    class Begin(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            steps.append(self.params["steps"])
            raise KeyboardInterrupt

    encoder = kseq.models.Encoder(9, 2, kseq.cells.GRUCell(2))
    seq2seq = kseq.models.Seq2Seq(encoder, kseq.models.Decoder(9, 2, kseq.cells.GRUCell(2)))
    rows = {"source": [[4, 5], [6], [7, 8, 4]]}
    targets, tags = [[2, 7, 3], [2, 3], [2, 4, 3]], [[1, 0], [1], [0, 0, 1]]
    for model, more, options in (
        (seq2seq, {"target": targets}, {}),
        (kseq.models.Tagger(encoder, 2), {"tags": tags}, {"class_weight": {1: 2.0}}),
    ):
        batches = kseq.training.bucket_by_length({**rows, **more}, batch_size=2, buckets=(2, 4))
        model.build()
        model.compile("sgd", run_eagerly=True)
        with pytest.raises(KeyboardInterrupt):
            model.fit(batches, callbacks=[Begin()], verbose=0, **options)
        assert steps.pop() == len(batches) > 1
