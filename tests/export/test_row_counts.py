"""Requests whose tensors have different numbers of rows."""

import numpy as np
import pytest
import tensorflow as tf

from kseq.export.row_counts import check_rows

v1 = tf.compat.v1
STRIPPED = v1.ConfigProto()
STRIPPED.graph_options.rewrite_options.debug_stripper = 1  # ON: no assertion is left
REQUEST = {
    "lengths": np.array([3, 1], "int32"),
    "text": np.array(["a", "b"], object),
    "tokens": np.ones([2, 3], "int32"),
    "characters": np.ones([2, 3, 0], "int32"),
}


def answered(request, config=None):
    """Return the answer of a session, as in a server, to a request whose lengths are optional."""
    with v1.Session(graph=tf.Graph(), config=config) as session:
        placeholders = {
            name: v1.placeholder(tf.as_dtype(value.dtype), [None] * value.ndim) for name, value in request.items()
        }
        checked = check_rows(placeholders, ["lengths"])
        assert list(checked) == list(request)
        assert [of.shape.rank for of in checked.values()] == [value.ndim for value in request.values()]
        # An operation that would apply one row to all others.
        answer = {**checked, "sum": tf.cast(checked["lengths"][:, None], tf.int32) + checked["tokens"]}
        return session.run(answer, {placeholders[name]: value for name, value in request.items()})


@pytest.mark.parametrize("config", [None, STRIPPED], ids=["assertions", "stripped"])
def test_equal_numbers_of_rows_change_nothing(config):
    answer = answered(REQUEST, config)
    for name, value in REQUEST.items():
        assert answer[name].shape == value.shape
        assert [each.decode() if isinstance(each, bytes) else each for each in answer[name].ravel()] == [*value.ravel()]
    assert answered({name: value[:0] for name, value in REQUEST.items()}, config)["text"].shape == (0,)


@pytest.mark.parametrize("rows", [[0], [0, 1, 0]], ids=["fewer", "more"])
@pytest.mark.parametrize("name", ["lengths", "tokens", "characters", "text"])
def test_another_number_of_rows_is_refused(name, rows):
    others = [other for other in REQUEST if other not in ("text", "lengths")]
    message = f"text and {name} must have the same number of rows, but they have.*2.*{len(rows)}"
    if name == "text":
        message = f"text and ({'|'.join(others)}|lengths) must have .* have.*{len(rows)}.*2"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        answered({**REQUEST, name: REQUEST[name][rows]})


@pytest.mark.parametrize("rows", [[0], [0, 1, 0]], ids=["fewer", "more"])
@pytest.mark.parametrize("name", ["lengths", "tokens", "text"])
def test_it_is_refused_without_assertions(name, rows):
    with pytest.raises(tf.errors.InvalidArgumentError, match="tensors_must_have_the_same_number_of_rows"):
        answered({**REQUEST, name: REQUEST[name][rows]}, STRIPPED)


def test_optional_tensors_may_be_empty():
    checked = check_rows({**REQUEST, "lengths": np.zeros([0], "int32")}, ["lengths"])
    assert checked["lengths"].shape == (0,)
    assert checked["tokens"].shape == (2, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="tokens and lengths must have"):
        check_rows({"tokens": tf.zeros([2, 1]), "lengths": tf.zeros([3, 0])}, ["lengths"])
    with pytest.raises(tf.errors.InvalidArgumentError, match="lengths and text must have"):
        check_rows({"lengths": tf.zeros([0]), "text": tf.zeros([2])})
