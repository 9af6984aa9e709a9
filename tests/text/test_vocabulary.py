import collections
import gc
import random
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from kseq.text import SpecialTokens, Vocabulary
from kseq.text.vocabulary_file import escape, escape_tensor, restore, restore_tensor

NASTY_TOKENS = [
    " ", "\n", "\r", "\r\n", "\t", "\\", "\\n", "\\x0A", "\\x5C", "\\\\x5C", "\\frac", "a\nb", "\x00",
    "\u2028", "\u0085", "\ufeff", "\ufffd", "\U0001f600", "#", ",", '"', " x ",
]  # fmt: skip


def test_both_directions():
    vocabulary = Vocabulary(["b", "a"])
    assert vocabulary.strings == ("<pad>", "<unk>", "<s>", "</s>", "b", "a")
    assert len(vocabulary) == 6
    ids = vocabulary.lookup(tf.constant([["a", "b"], ["?", "<s>"]]))
    assert ids.dtype == tf.int32
    np.testing.assert_array_equal(ids, [[5, 4], [1, 2]])
    np.testing.assert_array_equal(vocabulary.tokens(tf.range(6)).numpy().astype(str), vocabulary.strings)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_ids_outside_are_unknown(dtype):
    vocabulary = Vocabulary(["a"], special_tokens=SpecialTokens(unknown="?"))
    np.testing.assert_array_equal(vocabulary.tokens(np.array([-1, 5, 99], dtype)).numpy(), [b"?"] * 3)


def test_keeps_ragged_rows():
    ids = Vocabulary(["a", "\n"]).lookup(tf.ragged.constant([["a"], [], ["\n", "z"]]))
    assert ids.to_list() == [[4], [], [5, 1]]


def test_tokens_with_line_breaks_survive(tmp_path):
    vocabulary = Vocabulary(NASTY_TOKENS)
    ids = tf.range(4, len(vocabulary))
    np.testing.assert_array_equal(vocabulary.lookup(NASTY_TOKENS), ids)
    assert [token.decode() for token in vocabulary.tokens(ids).numpy()] == NASTY_TOKENS
    vocabulary.save(tmp_path / "saved.txt")
    assert (tmp_path / "saved.txt").read_bytes().count(b"\n") == len(vocabulary)
    assert Vocabulary.from_file(tmp_path / "saved.txt").strings == vocabulary.strings


def test_escapes_are_exact_and_in_the_graph_too():
    generator = random.Random(0)
    tokens = ["".join(generator.choices("\\x05ACD\n\r", k=generator.randint(1, 9))) for _ in range(5000)]
    lines = [escape(token) for token in tokens]
    assert [restore(line) for line in lines] == tokens
    assert not any("\n" in line or "\r" in line for line in lines)
    assert [line.decode() for line in escape_tensor(tokens).numpy()] == lines
    assert [token.decode() for token in restore_tensor(lines).numpy()] == tokens
    assert escape("\\frac") == "\\frac"


def test_from_corpus_is_by_count_then_code_point():
    corpus = [["b", "a", "\U0001f600", "z"], ["\uff5e", "a", "b"], ["c"]]
    counts = collections.Counter(token for tokens in corpus for token in tokens)
    expected = sorted(counts, key=lambda token: (-counts[token], token))
    assert list(Vocabulary.from_corpus(corpus).strings[4:]) == expected
    assert Vocabulary.from_corpus(corpus, min_count=2).strings[4:] == ("a", "b")
    assert Vocabulary.from_corpus(corpus, max_size=5).strings[4:] == ("a",)


def test_special_tokens_in_a_corpus_are_left_out():
    assert Vocabulary.from_corpus([["<s>", "a", "</s>"]]).strings[4:] == ("a",)


def test_reads_files_of_others(tmp_path):
    path = tmp_path / "plain.txt"
    path.write_bytes(b"\xef\xbb\xbfun\r\ndeux\r\n" + "tro\u2028is".encode())
    assert Vocabulary.from_file(path).strings[4:] == ("un", "deux", "tro\u2028is")


def test_needs_its_file_no_more(tmp_path):
    path = tmp_path / "tokens.txt"
    path.write_text("x\ny\n")
    vocabulary = Vocabulary.from_file(path)
    path.unlink()
    np.testing.assert_array_equal(tf.function(vocabulary.lookup)(tf.constant(["y", "x"])), [5, 4])


@pytest.mark.server
def test_takes_its_temporary_folder_along_when_it_goes(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    vocabulary = Vocabulary(["a"])
    assert [file.read_text() for file in tmp_path.glob("*/vocabulary-*.txt")] == ["<pad>\n<unk>\n<s>\n</s>\na\n"]
    del vocabulary
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_serialises():
    vocabulary = Vocabulary(NASTY_TOKENS, special_tokens=SpecialTokens(unknown="?"))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(vocabulary))
    assert again.strings == vocabulary.strings
    assert again.special_tokens == vocabulary.special_tokens


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        (["a", "b", "a"], ValueError, r"id 6: the token 'a' is already at 4"),
        (["</s>"], ValueError, r"id 4: the token '</s>' is already at 3"),
        (["a", ""], ValueError, r"id 5: the token is empty"),
        ([b"a"], TypeError, r"b'a' of type bytes.*decode"),
        ("abc", TypeError, r"list of tokens, got 'abc'.*from_file"),
    ],
)
def test_refuses_wrong_tokens(tokens, error, message):
    with pytest.raises(error, match=message):
        Vocabulary(tokens)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\na\n", r"tokens.txt', line 3: the token 'a' is already at 1"),
        (b"a\n\nb\n", r"line 2: the token is empty"),
        (b"a\n</s>\n", r"line 2: the special token '</s>' is out of place"),
        (b"caf\xe9\n", r"not UTF-8"),
    ],
)
def test_refuses_wrong_files(tmp_path, content, message):
    path = tmp_path / "tokens.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_file(path)


def test_missing_file_says_which(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no vocabulary file '.*nowhere\.txt'.*one token per line"):
        Vocabulary.from_file(tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"min_count": 0}, "min_count.*0"), ({"max_size": 4}, "more than 4"), ({"min_count": 9}, "No token is left of 1")],
)
def test_refuses_options_that_leave_nothing(options, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary.from_corpus([["a"]], **options)
