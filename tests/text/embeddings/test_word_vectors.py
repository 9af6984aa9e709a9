"""Neighbours, analogies and sums of vectors of words."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from kseq.text import WordVectors

WORDS = ["king", "queen", "man", "woman", "rare"]
MATRIX = [[2, 2], [1, -1], [0.1, 1], [0.1, -1], [1, -1]]
VECTORS = WordVectors(WORDS, MATRIX, [True, True, True, True, False])


def cosine(a, b):
    return np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)


def test_neighbours_are_ordered_by_cosine():
    found = VECTORS.nearest("man", 3)
    assert [word for word, _ in found] == ["king", "queen", "woman"]  # not itself, and not the one filled by a rule
    for word, similarity in found:
        assert similarity == pytest.approx(cosine(MATRIX[2], MATRIX[WORDS.index(word)]), abs=1e-6)
    assert VECTORS.nearest([1.0, -1.0], 1) == [("queen", pytest.approx(1.0))]
    assert len(VECTORS.nearest("man")) == 3


def test_analogies_leave_out_their_words():
    assert VECTORS.analogy("man", "king", "woman", 1)[0][0] == "queen"
    assert {word for word, _ in VECTORS.analogy("man", "king", "woman")} == {"queen"}


def test_neighbours_in_another_vocabulary():
    other = WordVectors(["König", "Frau"], [[1, 0.9], [0, -1]])
    assert VECTORS.nearest_in(other, "king", 1)[0][0] == "König"
    with pytest.raises(ValueError, match="sizes 2 and 1"):
        VECTORS.nearest_in(WordVectors(["a"], [[1]]), "king")


def test_a_texts_vector_is_the_sum_of_its_words():
    np.testing.assert_allclose(VECTORS.text_vector(["king", "and", "man", "man", "rare"]), [2.2, 4], rtol=1e-6)
    np.testing.assert_array_equal(VECTORS.text_vector([]), [0, 0])
    np.testing.assert_allclose(VECTORS.text_vector(["king", "and", "man"], "mean"), [1.05, 1.5], rtol=1e-6)
    np.testing.assert_array_equal(VECTORS.text_vector([], combine="mean"), [0, 0])
    with pytest.raises(ValueError, match="combine='max', but it must be one of 'sum', 'mean'"):
        VECTORS.text_vector(["king"], "max")


@pytest.mark.parametrize("words", [[b"king", "man"], tf.constant(["king", "man"]), np.array(["king", "man"])])
def test_a_texts_words_are_str_or_bytes(words):
    np.testing.assert_allclose(VECTORS.text_vector(words), [2.1, 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("king man", "expected the words of one text. Split it first"),
        (b"king man", "expected the words of one text"),
        (tf.constant("king man"), "expected the words of one text"),
        ([["king"]], r"words\[0\] is \['king'\], but expected a word"),
        (["king", None], r"words\[1\] is None"),
        (3, "words=3"),
    ],
)
def test_what_is_no_list_of_words_has_no_vector(words, message):
    with pytest.raises(TypeError, match=message):
        VECTORS.text_vector(words)


def test_alignment_finds_the_rotation_between_two_spaces():
    random = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(random.normal(size=(5, 5)))
    matrix = random.normal(size=(30, 5))
    one = WordVectors([f"a{number}" for number in range(30)], matrix)
    lengths = random.uniform(0.5, 2, size=(30, 1))  # only directions correspond
    other = WordVectors([f"b{number}" for number in range(30)], lengths * (matrix @ rotation))
    aligned = one.align(other, [(f"a{number}", f"b{number}") for number in range(8)])
    np.testing.assert_allclose(aligned.matrix, matrix @ rotation, atol=1e-5)
    assert [aligned.nearest_in(other, f"a{number}", 1)[0][0] for number in range(30)] == list(other.words)
    assert [word for word, _ in aligned.nearest("a3")] == [word for word, _ in one.nearest("a3")]
    of_dict = one.align(other, {f"a{number}": f"b{number}" for number in range(8)})
    np.testing.assert_array_equal(of_dict.matrix, aligned.matrix)
    with pytest.raises(KeyError, match="'c'"):
        one.align(other, [("c", "b1")])
    for pair in ("ab", ("a1", "b1", "b2"), ("a1", 1)):
        with pytest.raises(TypeError, match="expected two words"):
            one.align(other, [pair])
    for others, pairs, message in ((other, [], "0 pairs"), (WordVectors(["b"], [[1]]), [("a1", "b")], "sizes 5 and 1")):
        with pytest.raises(ValueError, match=message):
            one.align(others, pairs)


def test_score_of_similarities_is_spearmans_correlation():
    judged = [("king", "man", 9), ("king", "queen", 2), ("man", "woman", 2), ("queen", "woman", 7), ("king", "and", 1)]
    cosines = [round(cosine(VECTORS[first], VECTORS[second]), 6) for first, second, _ in judged[:4]]
    expected = scipy.stats.spearmanr(cosines, [9, 2, 2, 7]).statistic
    assert VECTORS.score_similarity(judged) == pytest.approx((expected, 0.8))
    with pytest.raises(ValueError, match="The similarity of 'king' and 'and' is nan"):
        VECTORS.score_similarity([*judged, ("king", "and", float("nan"))])
    for wrong in ([], judged[:1], judged[1:3], [("king", "and", 1)] * 3):
        with pytest.raises(ValueError, match="at least two with different similarities"):
            VECTORS.score_similarity(wrong)


def test_words_in_and_out():
    assert "king" in VECTORS
    assert "rare" not in VECTORS
    assert "and" not in VECTORS
    assert VECTORS["rare"].tolist() == [1, -1]
    with pytest.raises(KeyError, match="'and' is not one of the 5 words"):
        VECTORS["and"]


@pytest.mark.parametrize(
    "ask",
    [
        lambda: VECTORS.nearest("rare"),
        lambda: VECTORS.analogy("man", "rare", "woman"),
        lambda: VECTORS.nearest_in(VECTORS, "rare"),
        lambda: VECTORS.align(VECTORS, [("king", "king"), ("rare", "man")]),
        lambda: VECTORS.align(VECTORS, [("king", "king"), ("man", "rare")]),
    ],
)
def test_rows_filled_by_a_rule_answer_no_questions(ask):
    with pytest.raises(KeyError, match="'rare' has no vector of its own"):
        ask()


def test_vectors_do_not_change():
    matrix, found = np.array(MATRIX, "float32"), np.ones(5, bool)
    vectors = WordVectors(WORDS, matrix, found)
    matrix[0], found[0] = 0, False
    assert vectors["king"].tolist() == MATRIX[0]
    assert "king" in vectors
    for array in (vectors.matrix, vectors.found, vectors["king"]):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


@pytest.mark.parametrize(
    ("words", "matrix", "found", "message"),
    [
        (["a"], [[1], [2]], None, r"1 words, but the matrix has shape \(2, 1\)"),
        (["a"], [1], None, r"the matrix has shape \(1,\)"),
        (["a"], [[1]], [True, False], r"found has shape \(2,\)"),
        (["a", "b", "a"], [[1], [2], [3]], None, "'a' is repeated"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(words, matrix, found, message):
    with pytest.raises(ValueError, match=message):
        WordVectors(words, matrix, found)


def test_a_vector_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"has shape \(3,\), but expected \(2,\)"):
        VECTORS.nearest([1, 2, 3])
    with pytest.raises(ValueError, match="has NaN or infinity"):
        VECTORS.nearest([1, float("nan")])
