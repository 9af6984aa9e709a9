"""Logits to decode, and the ways to decode them."""

import functools

import keras
import numpy as np

from kseq.decoding import ctc_beam_search
from tests.support import BACKEND, compiled

LENGTHS = np.array([6, 4, 0, 1, 5], "int32")


def random_logits(seed=0, shape=(5, 6, 4), sharpness=1.5):
    return (sharpness * np.random.default_rng(seed).normal(size=shape)).astype("float32")


@functools.cache
def compiled_search(**options):
    return compiled(lambda logits, lengths: ctc_beam_search(logits, lengths, **options))


def quick(function):
    """The way to run a function that is quickest to test: on JAX compiled with little optimisation, else eagerly."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})
    return function


@functools.cache
def quick_search(**options):
    return quick(lambda logits, lengths: ctc_beam_search(logits, lengths, **options))


def search(logits, lengths, **options):
    return numpy(quick_search(**options)(logits, np.asarray(lengths)))


def search_compiled(logits, lengths, **options):
    return numpy(compiled_search(**options)(logits, np.asarray(lengths)))


def numpy(decoded):
    return keras.tree.map_structure(np.asarray, decoded)


def ways(function, logits, lengths):
    """`(name, answer)` of every way to run a function of logits and lengths; in a graph of unknown batch and time."""
    answers = [("eager", function(logits, lengths)), ("compiled", compiled(function)(logits, lengths))]
    if BACKEND == "tensorflow":
        import tensorflow as tf

        unknown = [tf.TensorSpec((None, None, logits.shape[2]), logits.dtype), tf.TensorSpec((None,), lengths.dtype)]
        answers.append(("graph", tf.function(function, unknown, autograph=False)(logits, lengths)))
    return [(name, numpy(answer)) for name, answer in answers]


def strings(decoded, row, *, frames=False):
    """The strings of a row as `(score, string)` or `(score, string, frames)`; those that are not there are left out."""
    found = []
    for place in range(decoded.tokens.shape[1]):
        length, score = decoded.lengths[row, place], decoded.scores[row, place]
        for values in (decoded.tokens, decoded.frames):
            assert (values[row, place, :length] >= 0).all()
            assert (values[row, place, length:] == -1).all()
        if score > -1e29:
            string, at = (tuple(x[row, place, :length].tolist()) for x in (decoded.tokens, decoded.frames))
            found.append((float(score), string, at) if frames else (float(score), string))
    return found


def assert_strings(got, expected, atol=1e-4):
    """Compare `(score, ...)` tuples: all but the score must be equal."""
    assert [x[1:] for x in got] == [x[1:] for x in expected]
    np.testing.assert_allclose([x[0] for x in got], [x[0] for x in expected], atol=atol)


def assert_same(got, expected, atol=1e-5):
    for name, one, other in zip(got._fields, got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=atol, rtol=1e-6, err_msg=name)
