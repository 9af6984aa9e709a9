"""Neighbours, analogies and sums of vectors of words."""

import numpy as np
import pytest

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


def test_words_in_and_out():
    assert "king" in VECTORS
    assert "rare" not in VECTORS
    assert "and" not in VECTORS
    assert VECTORS["rare"].tolist() == [1, -1]
    with pytest.raises(KeyError, match="'and' is not one of the 5 words"):
        VECTORS["and"]


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
