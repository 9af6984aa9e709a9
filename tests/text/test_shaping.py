"""Truncation and packing of several texts, against the library `tokenizers`, and conversions of rows."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
import tokenizers

from kseq.text import (
    SegmentPacker,
    SpecialTokens,
    WordTokenizer,
    dense_to_ragged,
    one_hot_rows,
    ragged_to_dense,
    truncate_segments,
)
from tests.export.test_saved_model import Session
from tests.support import operations_not_of_tensorflow

CLS, SEP, PAD = 2, 3, 0


def random_rows(count: int, seed: int) -> list[list[int]]:
    generator = random.Random(seed)
    return [[generator.randrange(4, 50) for _ in range(generator.randrange(0, 12))] for _ in range(count)]


FIRST, SECOND = random_rows(60, 1), random_rows(60, 2)


@pytest.fixture(scope="module")
def hugging_face() -> tokenizers.Tokenizer:
    words = {str(number): number for number in range(50)}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="1"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    model.post_processor = tokenizers.processors.BertProcessing((str(SEP), SEP), (str(CLS), CLS))
    return model


def theirs(model, max_length, first, second=None, side="right"):
    model.enable_truncation(max_length, strategy="longest_first", direction=side)
    texts = [[" ".join(map(str, row)) for row in rows] for rows in (first, second) if rows is not None]
    encodings = model.encode_batch(texts[0] if second is None else list(zip(*texts, strict=True)))
    return [encoding.ids for encoding in encodings], [encoding.type_ids for encoding in encodings]


def unpadded(values, lengths) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(values.numpy(), lengths.numpy(), strict=True)]


@pytest.mark.parametrize("side", ["end", "start"])
@pytest.mark.parametrize("max_length", [3, 4, 7, 8, 11, 30])
def test_pairs_are_those_of_hugging_face(hugging_face, max_length, side):
    packed = SegmentPacker(max_length=max_length, side=side)(FIRST, SECOND)
    ids, types = theirs(hugging_face, max_length, FIRST, SECOND, {"end": "right", "start": "left"}[side])
    assert unpadded(packed.ids, packed.lengths) == ids
    assert unpadded(packed.segment_ids, packed.lengths) == types
    time = packed.ids.shape[1]
    assert time == max(map(len, ids)) <= max_length
    np.testing.assert_array_equal(packed.mask, np.arange(time) < packed.lengths.numpy()[:, None])
    assert not packed.ids.numpy()[~packed.mask.numpy()].any()
    assert not packed.segment_ids.numpy()[~packed.mask.numpy()].any()


def test_single_texts_are_those_of_hugging_face(hugging_face):
    packed = SegmentPacker(max_length=6)(FIRST)
    ids, types = theirs(hugging_face, 6, FIRST)
    assert unpadded(packed.ids, packed.lengths) == ids
    assert unpadded(packed.segment_ids, packed.lengths) == types


def test_more_texts_share_the_room_as_evenly_as_they_can():
    rows = [FIRST, SECOND, random_rows(60, 3)]
    for room in (0, 4, 10):
        cut = [each.to_list() for each in truncate_segments(rows, room)]
        for parts, wholes in zip(zip(*cut, strict=True), zip(*rows, strict=True), strict=True):
            lengths = [len(part) for part in parts]
            assert sum(lengths) == min(room, sum(map(len, wholes)))
            shortened = [n for n, whole in zip(lengths, wholes, strict=True) if n < len(whole)]
            assert not shortened or max(lengths) <= min(shortened) + 1
            assert all(part == whole[: len(part)] for part, whole in zip(parts, wholes, strict=True))


def test_three_texts_and_other_special_tokens():
    special = SpecialTokens(pad_id=9, bos_id=7, eos_id=8)
    packer = SegmentPacker(special_tokens=special, separator_id=5, separators=2, pad_to_multiple_of=4)
    packed = packer([[11]], [[]], [[21, 22]])
    assert packed.ids.numpy().tolist() == [[7, 11, 5, 5, 5, 5, 21, 22, 8, 9, 9, 9]]
    assert packed.segment_ids.numpy().tolist() == [[0, 0, 0, 0, 1, 1, 2, 2, 2, 0, 0, 0]]
    bare = SegmentPacker(add_bos=False, add_eos=False, separators=0)([[11]], [[21, 22]])
    assert bare.ids.numpy().tolist() == [[11, 21, 22]]
    assert bare.segment_ids.numpy().tolist() == [[0, 1, 1]]


def test_one_text_alone_is_cut():
    first, second = truncate_segments([[[1, 2, 3], [4]], [[5, 6, 7], [8]]], 4, strategy="only_second", side="start")
    assert (first.to_list(), second.to_list()) == ([[1, 2, 3], [4]], [[7], [8]])
    (only,) = truncate_segments([[[1, 2, 3]]], 2, strategy="only_first")
    assert only.to_list() == [[1, 2]]
    with pytest.raises(ValueError, match="needs two segments, but there is 1"):
        truncate_segments([[[1]]], 2, strategy="only_second")


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["only_first", "error"])
def test_what_a_strategy_leaves_too_long_is_refused(strategy):
    segments = [[[1]], [[5, 6, 7]]]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"more ids than the 2 that max_length.*{strategy}"):
        truncate_segments(segments, 2, strategy=strategy)
    rows = [tf.ragged.constant(each) for each in segments]
    traced = tf.function(lambda: truncate_segments(rows, 2, strategy=strategy)[0].flat_values, autograph=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more ids than the 2"):
        traced()
    assert [each.to_list() for each in truncate_segments(segments, 4, strategy=strategy)] == segments


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SegmentPacker(max_length=2)([[1]], [[2]]), r"max_length=2 .* 2 texts has 3 special .*1, separators 1"),
        (lambda: SegmentPacker(max_length=1), "max_length must be at least 2"),
        (lambda: SegmentPacker(strategy="shortest"), "'shortest'"),
        (lambda: SegmentPacker(side="left"), "'left'"),
        (lambda: SegmentPacker(separators=-1), "-1"),
        (lambda: SegmentPacker(separator_id=-2), "-2"),
        (lambda: SegmentPacker()(), r"\(\)"),
        (lambda: SegmentPacker()([[1]], [[2], [3]]), r"\[1, 2\] rows"),
        (lambda: SegmentPacker()([1, 2]), r"segment 0 .* got \[1, 2\]"),
        (lambda: SegmentPacker()([[1]], [["a"]]), "segment 1 .* string"),
        (lambda: truncate_segments([], 3), r"\[\]"),
        (lambda: truncate_segments([[[1]]], -1), "-1"),
        (lambda: ragged_to_dense([[1.5]]), "float32"),
        (lambda: dense_to_ragged([[1, 2]], [3]), "row 0 has the length 3, .* 2 time steps"),
        (lambda: dense_to_ragged([[1, 2]], [1, 1]), r"\(1, 2\) and \(2,\)"),
        (lambda: one_hot_rows([[1.0]], [1], 3), "float32 ids"),
        (lambda: ragged_to_dense([[2**33 + 5]]), "8589934597.*int32"),
        (lambda: SegmentPacker()(np.array([[-(2**32)]])), "segment 0 .*-4294967296.*int32"),
        (lambda: ragged_to_dense(np.array([[2**63]], "uint64")), "9223372036854775808.*int32"),
        (lambda: dense_to_ragged([[1, 2]], [2**32 + 1]), "row 0 has the length 4294967297"),
        (lambda: dense_to_ragged([[1, 2**32]], [2]), "4294967296.*int32"),
        (lambda: dense_to_ragged([[1], [2, 3]], [1, 1]), r"got \[\[1\], \[2, 3\]\]: .*non-rectangular"),
        (lambda: one_hot_rows(tf.ragged.constant([[1]]), [1], 3), r"Give ragged_to_dense\(ids\)"),
        (lambda: one_hot_rows([[1]], [1], -1), "depth .* -1"),
        (lambda: truncate_segments([[1, 2], [3]], 1), r"segment 0 of the list .* got \[1, 2\]. Put a single row"),
    ],
)
def test_refuses_wrong_arguments(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_ragged_dense_and_back():
    ids, lengths, mask = ragged_to_dense(FIRST, pad_id=-1)
    np.testing.assert_array_equal(ids.numpy() != -1, mask)
    assert lengths.numpy().tolist() == [len(row) for row in FIRST]
    assert dense_to_ragged(ids, lengths).to_list() == FIRST
    assert dense_to_ragged(np.array([[1, 2]]), np.array([2])).to_list() == [[1, 2]]
    assert ragged_to_dense([]).ids.shape == (0, 0)
    assert ragged_to_dense([[], []]).mask.shape == (2, 0)
    clipped = tf.function(lambda lengths: dense_to_ragged([[1, 2], [3, 4]], lengths).to_tensor(), autograph=False)
    assert clipped(tf.constant([5, -1])).numpy().tolist() == [[1, 2], [0, 0]]
    assert dense_to_ragged([[]], [0]).to_list() == one_hot_rows([[]], [0], 3)[..., 0].numpy().tolist() == [[]]
    assert ragged_to_dense([tf.constant([5, 6]), np.array([7])]).ids.numpy().tolist() == [[5, 6], [7, 0]]
    hot = one_hot_rows([[1, 2], [9, 1]], [1, 2], 3, dtype="int32").numpy().tolist()
    assert hot == [[[0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0]]]


def test_ids_and_limits_beyond_int32():
    beyond = tf.constant([[2**32 + 1, -(2**40), 1]], tf.int64)
    saturated = [2**31 - 1, -(2**31), 1]
    graph = tf.function(lambda ids: ragged_to_dense(ids).ids, autograph=False)
    assert graph(beyond).numpy().tolist() == [saturated]
    assert one_hot_rows(beyond, [3], 2).numpy()[0].tolist() == [[0, 0], [0, 0], [0, 1]]
    assert truncate_segments([[[1, 2]]], 2**31)[0].to_list() == [[1, 2]]


def test_ragged_rows_of_either_kind_of_splits():
    narrow = tf.RaggedTensor.from_row_splits([1, 2], tf.constant([0, 2], tf.int32))
    assert SegmentPacker()(narrow, [[4]]).ids.numpy().tolist() == [[2, 1, 2, 3, 4, 3]]


@pytest.mark.long
def test_data_and_exported_graphs_answer_equally(tmp_path):
    tokenizer = WordTokenizer().adapt(["a b c d e f"])
    packer = SegmentPacker(special_tokens=tokenizer.special_tokens, max_length=9)
    packer = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(packer))

    def serve(question, answer):
        packed = packer(tokenizer.tokenize(question), tokenizer.tokenize(answer))
        hot = one_hot_rows(packed.ids, packed.lengths, tokenizer.vocabulary_size)
        return {**packed._asdict(), "one_hot": hot, "again": ragged_to_dense(dense_to_ragged(*packed[::3])).ids}

    questions, answers = ["a b c d e f a", "", "a"], ["b", "c d e f a b c d", "f e"]
    expected = {name: value.numpy() for name, value in serve(questions, answers).items()}
    np.testing.assert_array_equal(expected["again"], expected["ids"])
    in_python = packer(tokenizer.tokenize(questions).to_list(), tokenizer.tokenize(answers).to_list())
    np.testing.assert_array_equal(in_python.ids, expected["ids"])
    mapped = next(iter(tf.data.Dataset.from_tensor_slices((questions, answers)).batch(3).map(serve)))
    archive = keras.export.ExportArchive()
    archive.track(tokenizer)
    specs = [tf.TensorSpec([None], tf.string, name=name) for name in ("question", "answer")]
    archive.add_endpoint("serving_default", serve, input_signature=specs)
    archive.write_out(tmp_path / "export", verbose=False)
    server = Session(tmp_path / "export", "serving_default")
    served, nothing = server(question=questions, answer=answers), server(question=[], answer=[])
    for name, value in expected.items():
        np.testing.assert_array_equal(mapped[name], value)
        np.testing.assert_array_equal(served[name], value)
        assert len(nothing[name]) == 0
    assert not operations_not_of_tensorflow(server.session.graph)
