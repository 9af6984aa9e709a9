"""Truncation, begin and end tokens, padding."""

import numpy as np
import pytest
import tensorflow as tf

from kseq.text import CharacterTokenizer


def test_empty_texts_have_their_ends_only():
    ids, lengths = CharacterTokenizer(["a"], add_bos=True, add_eos=True)(["", "a"])
    np.testing.assert_array_equal(ids, [[2, 3, 0], [2, 4, 3]])
    np.testing.assert_array_equal(lengths, [2, 3])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"truncation": "end"}, [[4, 5, 6], [4, 0, 0]]),
        ({"truncation": "start"}, [[5, 6, 7], [4, 0, 0]]),
        ({"truncation": "end", "add_bos": True, "add_eos": True}, [[2, 4, 3], [2, 4, 3]]),
        ({"truncation": "start", "add_bos": True, "add_eos": True}, [[2, 7, 3], [2, 4, 3]]),
        ({"truncation": "start", "add_eos": True}, [[6, 7, 3], [4, 3, 0]]),
    ],
)
def test_truncation(options, expected):
    ids, _ = CharacterTokenizer(["a", "b", "c", "d"], max_length=3, **options)(["abcd", "a"])
    np.testing.assert_array_equal(ids, expected)


@pytest.mark.parametrize("truncation", ["start", "end"])
def test_truncation_to_the_ends_alone(truncation):
    tokenizer = CharacterTokenizer(["a"], max_length=2, add_bos=True, add_eos=True, truncation=truncation)
    np.testing.assert_array_equal(tokenizer(["aaa"])[0], [[2, 3]])


@pytest.mark.long
@pytest.mark.parametrize("wrap", [lambda function: function, tf.function])
def test_truncation_error_fails_the_call(wrap):
    call = wrap(CharacterTokenizer(["a"], max_length=3, add_eos=True, truncation="error").__call__)
    np.testing.assert_array_equal(call(tf.constant(["aa", ""]))[1], [3, 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"more tokens than the 2 that max_length leaves"):
        call(tf.constant(["aaa"]))


@pytest.mark.parametrize(("texts", "time"), [(["abc"], 4), (["abcd"], 4), (["abcda"], 8), ([""], 4)])
def test_pads_to_a_multiple(texts, time):
    tokenizer = CharacterTokenizer(["a", "b", "c", "d"], pad_to_multiple_of=4)
    ids, lengths = tokenizer(texts)
    assert ids.shape == (1, time)
    np.testing.assert_array_equal(lengths, [len(texts[0])])


def test_fixed_length_is_static():
    tokenizer = CharacterTokenizer(["a"], max_length=6, pad_to_multiple_of=6)
    concrete = tf.function(tokenizer.__call__).get_concrete_function(tf.TensorSpec([None], tf.string))
    assert [shape.as_list() for shape in concrete.output_shapes] == [[None, 6], [None]]
    assert tokenizer(["a" * 9, ""])[0].shape == (2, 6)
