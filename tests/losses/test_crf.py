"""The log-likelihood of linear-chain CRFs, compared with enumeration and automatic differentiation; and wrong input."""

import functools
import itertools
import warnings

import numpy as np
import pytest
from keras import ops

import kseq
from kseq.alignment import exact_chain, fast_chain
from kseq.alignment.chain_sums import sum_sequences
from kseq.alignment.linear_chain import make_chain
from kseq.losses import crf_log_likelihood
from kseq.tag_schemes import AllowedTransitions
from tests.alignment.chain_cases import LENGTHS, TAGS, TIME, WEIGHTS, expected_values, random_case
from tests.reference import crf as reference
from tests.support import BACKEND, compiled, compiled_functions, gradient, traced


def weighted_sum(tags, weights, lengths, *values, **options):
    """Return the sum of the finite log-likelihoods by weight."""
    scores, transitions, start, end = values
    logs = crf_log_likelihood(tags, scores, lengths, transitions=transitions, start=start, end=end, **options)
    return ops.sum(ops.where(ops.isfinite(logs), logs, 0.0) * weights), logs


@functools.cache
def both(wrap, **options):
    """Return `(tags, weights, lengths, scores, transitions, start, end) -> (logs, gradients of their weighted sum)`."""

    def function(tags, weights, lengths, *values):
        if BACKEND == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                tape.watch(values)
                total, logs = weighted_sum(tags, weights, lengths, *values, **options)
            return logs, tape.gradient(total, values)
        import jax

        found = jax.grad(lambda *v: weighted_sum(tags, weights, lengths, *v, **options), (0, 1, 2, 3), has_aux=True)
        gradients, logs = found(*values)
        return logs, gradients

    return wrap(function)


def run(case, *, lengths=LENGTHS, wrap=compiled, **options):
    """Return the log-likelihoods, and the gradients for scores, transitions, start and end."""
    given = case.tags, WEIGHTS[: len(case.tags)], lengths, case.scores, case.transitions, case.start, case.end
    logs, gradients = both(wrap, **options)(*map(ops.convert_to_tensor, given))
    return np.asarray(logs), [np.asarray(each) for each in gradients]


def check(got, case, *, atol):
    logs, gradients = expected_values(case)
    np.testing.assert_allclose(got[0], logs, rtol=1e-5, atol=atol)
    for name, value, expected in zip(("scores", "transitions", "start", "end"), got[1], gradients, strict=True):
        np.testing.assert_allclose(value, expected, atol=atol, err_msg=name)


@pytest.mark.every_backend
@pytest.mark.parametrize("forbidden", [False, True])
@pytest.mark.parametrize(("scale", "atol"), [(1.0, 1e-5), (1e4, 2e-3)])  # scores of 1e4 are rounded by 1e-3
def test_equals_the_enumeration_of_all_sequences(scale, atol, forbidden):
    case = random_case(scale, forbidden=forbidden, seed=3)
    got = run(case)
    assert got[0].dtype == np.float32
    check(got, case, atol=atol)
    if forbidden:
        assert got[0][5] == -np.inf
        assert (got[1][0][5] == 0).all()


@pytest.mark.parametrize("module", [fast_chain, exact_chain])
def test_both_recursions_are_right_in_both_directions(module, monkeypatch):
    monkeypatch.setattr(fast_chain, "LEAST", 0.0 if module == fast_chain else np.inf)
    case = random_case(forbidden=True, seed=5)
    check(run(case, wrap=lambda f: f), case, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("wrap", [lambda f: f, traced], ids=["eager", "graph"])
def test_scores_that_underflow_in_products_of_probabilities(wrap):
    """The only possible way to tag 2 leads through tag 1, which is less probable than tag 0 by exp(-300)."""
    scores = np.array([[[0.0, -300.0, 0.0], [0.0, 0.0, 400.0], [0.0, 0.0, 0.0]]], "float32")
    transitions = np.zeros((3, 3), "float32")
    transitions[0, 2] = -np.inf
    start = np.array([0.0, 0.0, -np.inf], "float32")
    sequences = reference.every_sequence(scores[0], transitions, start)
    call = wrap(lambda y, x: crf_log_likelihood(y, x, [3], transitions=transitions, start=start))
    for tags in ([0, 1, 2], [1, 2, 0]):
        np.testing.assert_allclose(call([tags], scores), [reference.log_likelihood(tags, sequences)], rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("setting", [False, True])
def test_graphs_of_unknown_sizes_compile_the_recursions_if_they_shall(setting):
    import tensorflow as tf

    case = random_case(seed=1)
    shapes = [(None, None), (None,), (None,), (None, None, TAGS), (TAGS, TAGS), (TAGS,), (TAGS,)]
    dtypes = ["int64", "float32", "int64", *["float32"] * 4]
    spec = [tf.TensorSpec(*each) for each in zip(shapes, dtypes, strict=True)]
    in_graph = functools.partial(tf.function, input_signature=spec, autograph=False)
    with kseq.config.jit_compile_scope(setting):
        check(run(case, wrap=in_graph), case, atol=1e-5)
        graph = both(in_graph).get_concrete_function()
        assert len(compiled_functions(graph)) == (2 if setting else 0)
        for time in () if setting else (0, 1):  # fewer steps than the recursions need
            few = case._replace(tags=case.tags[:, :time], scores=np.nan_to_num(case.scores[:, :time]))
            lengths = np.minimum(LENGTHS, time)
            logs, gradients = run(few, lengths=lengths, wrap=in_graph)
            alone, others = run(few, lengths=lengths, wrap=lambda f: f)
            np.testing.assert_allclose(logs, alone, rtol=1e-5)
            for value, other in zip(gradients, others, strict=True):
                np.testing.assert_allclose(value, other, atol=1e-6)


def test_the_gradient_equals_automatic_differentiation():
    import tensorflow as tf

    case, row, length = random_case(seed=7), 0, 5
    tags, values = case.tags[row], [case.scores[row], *case.chain.values()]
    tensors = [tf.constant(each, "float64") for each in values]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        scores, transitions, start, end = tensors
        alpha = start + scores[0]
        for t in range(1, length):
            alpha = tf.reduce_logsumexp(alpha[:, None] + transitions, axis=0) + scores[t]
        given = sum(scores[t, tag] for t, tag in enumerate(tags)) + start[tags[0]] + end[tags[-1]]
        given += sum(transitions[a, b] for a, b in itertools.pairwise(tags))
        expected = given - tf.reduce_logsumexp(alpha + end)
    got = gradient(
        lambda x, a, b, c: ops.sum(crf_log_likelihood([tags], x[None], [length], transitions=a, start=b, end=c)),
        *values,
    )
    for value, wanted in zip(got, tape.gradient(expected, tensors), strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-5)


@pytest.mark.long
def test_a_long_chain_stays_exact_in_float32():
    rows, time, count = 2, 1000, 7
    random = np.random.default_rng(0)
    tags, lengths = random.integers(0, count, size=(rows, time)), np.array([1000, 700])
    sizes = (rows, time, count), (count, count), count, count
    values = [(3.0 * random.normal(size=size)).astype("float32") for size in sizes]
    given = map(ops.convert_to_tensor, (tags, WEIGHTS[:rows], lengths, *values))
    logs, gradients = both(traced)(*given)
    d_transitions = np.zeros((count, count))
    for row, length in enumerate(lengths):
        y = tags[row, :length]
        log_total, marginals, moves = reference.forward_backward(values[0][row, :length], *values[1:])
        np.testing.assert_allclose(logs[row], reference.score(y, values[0][row], *values[1:]) - log_total, rtol=1e-6)
        wanted = WEIGHTS[row] * (np.eye(count)[y] - marginals)
        np.testing.assert_allclose(gradients[0][row, :length], wanted, atol=2e-5)
        np.add.at(d_transitions, (y[:-1], y[1:]), WEIGHTS[row])
        d_transitions -= WEIGHTS[row] * moves
    np.testing.assert_allclose(gradients[1], d_transitions, atol=5e-4)  # sums over 1700 transitions


@pytest.mark.long
def test_a_row_alone_equals_the_row_in_a_batch():
    case = random_case(seed=2)
    logs, gradients = run(case, wrap=traced)
    for row in (0, 3):
        length = LENGTHS[row]
        alone = case._replace(tags=case.tags[row : row + 1, :length], scores=case.scores[row : row + 1, :length])
        log, d_alone = run(alone, lengths=np.array([length]), wrap=lambda f: f)
        np.testing.assert_allclose(log[0], logs[row], rtol=1e-6)
        np.testing.assert_allclose(d_alone[0][0] * WEIGHTS[row], gradients[0][row, :length], atol=1e-6)
        assert (gradients[0][row, length:] == 0).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_every_precision_is_computed_in_float32(dtype):
    case = random_case(seed=4)
    scores = ops.cast(case.scores, dtype)

    def total(x):
        return ops.sum(crf_log_likelihood(case.tags, x, LENGTHS, **case.chain))

    logs = crf_log_likelihood(case.tags, scores, LENGTHS, **case.chain)
    same = crf_log_likelihood(case.tags, ops.cast(scores, "float32"), LENGTHS, **case.chain)
    assert ops.convert_to_numpy(logs).dtype == np.float32
    np.testing.assert_allclose(logs, same, rtol=1e-6)
    (d_scores,) = gradient(total, scores)
    assert np.isfinite(d_scores.astype("float32")).all()


def bad_rows():
    """Return a case of which rows 0, 2 and 3 are NaN, have a wrong tag, and a wrong length; and the lengths."""
    case = random_case(seed=6)
    scores, tags, lengths = case.scores.copy(), case.tags.copy(), LENGTHS.copy()
    scores[0, 2, 1], tags[2, 0], lengths[3] = np.nan, TAGS, TIME + 1
    return case._replace(scores=scores, tags=tags), lengths


@pytest.mark.long
@pytest.mark.every_backend
def test_in_a_graph_bad_rows_answer_for_themselves_alone():
    clean, (case, lengths) = random_case(seed=6), bad_rows()
    logs, gradients = run(case, lengths=lengths, wrap=traced)
    assert np.isnan(logs[0])
    assert (logs[[2, 3]] == -np.inf).all()
    assert np.isnan(gradients[0][0]).all()
    assert (gradients[0][[2, 3]] == 0).all()
    good = [1, 4, 5]
    kept = clean._replace(tags=clean.tags[good], scores=clean.scores[good])
    given = kept.tags, WEIGHTS[good], LENGTHS[good], kept.scores, kept.transitions, kept.start, kept.end
    expected, d_expected = both(traced)(*map(ops.convert_to_tensor, given))
    np.testing.assert_allclose(logs[good], expected, rtol=1e-6)
    np.testing.assert_allclose(gradients[0][good], d_expected[0], atol=1e-6)
    for value, wanted in zip(gradients[1:], d_expected[1:], strict=True):
        np.testing.assert_allclose(value, wanted, atol=1e-6)
    call = traced(lambda y, x, n: crf_log_likelihood(y, x, n, **case.chain, infeasible="zero"))
    zero = np.asarray(call(case.tags, clean.scores, lengths))
    assert (zero[[2, 3]] == -np.inf).all()  # they are wrong, not infeasible


def test_rows_with_nan_do_not_slow_down_the_others():
    case = random_case()
    chain = make_chain(case.scores, LENGTHS, *case.chain.values(), None)
    scores = case.scores.copy()
    scores[0, 0] = np.nan
    assert sum_sequences(chain._replace(scores=ops.convert_to_tensor(scores))).fast


def test_infeasible_rows():
    case = random_case(forbidden=True)
    logs = crf_log_likelihood(case.tags, case.scores, LENGTHS, **case.chain, infeasible="zero")
    expected = expected_values(case)[0]
    assert expected[5] == -np.inf
    np.testing.assert_allclose(logs, np.where(np.isfinite(expected), expected, 0.0), rtol=1e-5, atol=1e-6)
    d_scores, d_transitions = gradient(
        lambda x, a: ops.sum(crf_log_likelihood(case.tags, x, LENGTHS, **{**case.chain, "transitions": a})),
        case.scores,
        case.transitions,
    )
    assert (d_scores[5] == 0).all()
    assert np.abs(d_scores[0]).max() > 0
    without = gradient(
        lambda a: ops.sum(
            crf_log_likelihood(case.tags[:5], case.scores[:5], LENGTHS[:5], **{**case.chain, "transitions": a})
        ),
        case.transitions,
    )
    np.testing.assert_allclose(d_transitions, without[0], atol=1e-6)
    nowhere = np.full((TAGS, TAGS), -np.inf, "float32")  # sequences of one tag are possible
    logs = crf_log_likelihood(case.tags, case.scores, LENGTHS, transitions=nowhere)
    assert np.isfinite(logs[1:3]).all()
    assert (np.asarray(logs)[[0, 3, 4, 5]] == -np.inf).all()
    with pytest.raises(ValueError, match="infeasible='nan', expected one of"):
        crf_log_likelihood(case.tags, case.scores, LENGTHS, **case.chain, infeasible="nan")


def test_what_is_not_allowed_has_probability_zero():
    case, free = random_case(forbidden=True), random_case()
    allowed = AllowedTransitions(*(np.isfinite(x) for x in (case.transitions, case.start, case.end)))
    got = crf_log_likelihood(case.tags, case.scores, LENGTHS, **free.chain, allowed=allowed)
    np.testing.assert_allclose(got, expected_values(case)[0], rtol=1e-5, atol=1e-6)
    (d_transitions,) = gradient(
        lambda a: ops.sum(
            crf_log_likelihood(case.tags, case.scores, LENGTHS, transitions=a, allowed=allowed, infeasible="zero")
        ),
        free.transitions,
    )
    assert d_transitions[0, 2] == 0
    assert np.abs(d_transitions).max() > 0.1


def test_the_probabilities_of_the_sequences_of_tensorflow_addons_sum_to_one():
    """The numbers are those of `crf_test.py` in TensorFlow Addons, whose expected values are sums like this one."""
    scores = np.array([[4, 5, -3], [3, -1, 3], [-1, 2, 1], [0, 0, 0]], "float16")
    transitions = np.array([[-3, 5, -2], [3, 4, 1], [1, 2, 1]], "float16")
    every = np.array([(*tags, 0) for tags in np.ndindex(3, 3, 3)])
    logs = crf_log_likelihood(every, np.repeat(scores[None], 27, 0), np.full(27, 3), transitions=transitions)
    np.testing.assert_allclose(ops.logsumexp(logs), 0.0, atol=1e-6)
    total = sum(score for score in (5 + 3 + 2, 1 + 2))  # of the tags 1, 2, 1
    expected = total - reference.log_total(reference.every_sequence(scores[:3], transitions))
    np.testing.assert_allclose(logs[int(np.ravel_multi_index((1, 2, 1), (3, 3, 3)))], expected, rtol=1e-5)


def test_one_tag_and_no_rows():
    assert np.asarray(crf_log_likelihood([[0, 0]], [[[3.0], [4.0]]], [2], transitions=[[1.0]])) == [0.0]
    none = crf_log_likelihood(np.zeros((0, 4), int), np.zeros((0, 4, 2)), np.zeros(0, int), transitions=np.eye(2))
    assert none.shape == (0,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tags": [[0, 2]]}, r"tags\[0, 1\] = 2, but the scores have 2 tags, 0 to 1"),
        ({"tags": [[0, 1, 1]]}, r"tags have shape \(1, 3\), but scores \(1, 2, 2\)"),
        ({"tags": [[0.5, 1]]}, "must be whole numbers"),
        ({"tags": [[0], [1, 0]]}, "Rows of different lengths must be padded"),
        ({"lengths": [3]}, r"lengths\[0\] = 3, but scores has 2 columns"),
        ({"lengths": [2, 2]}, r"scores \(1, 2, 2\) and lengths \(2,\)"),
        ({"scores": np.full((1, 2, 2), np.nan)}, r"scores\[0, 0, 0\] = nan"),
        ({"scores": np.full((1, 2, 2), np.inf)}, r"scores\[0, 0, 0\] = inf"),
        ({"transitions": np.zeros((3, 3))}, r"transitions has shape \(3, 3\), but the scores have 2 tags"),
        ({"transitions": np.full((2, 2), np.nan)}, r"transitions\[0, 0\] = nan"),
        ({"transitions": None}, "transitions is None"),
        ({"end": np.zeros(3)}, r"end has shape \(3,\)"),
        ({"allowed": AllowedTransitions(np.ones((2, 2)), np.ones(2), np.ones(2))}, "expected bool"),
    ],
)
def test_wrong_input_is_refused(changes, message):
    given = {"tags": [[0, 1]], "scores": np.zeros((1, 2, 2)), "lengths": [2], "transitions": np.zeros((2, 2))}
    with pytest.raises(ValueError, match=message):
        crf_log_likelihood(**{**given, **changes})


@pytest.mark.every_backend
def test_the_gradient_has_no_gradient():
    case = random_case()
    with warnings.catch_warnings(action="ignore"), pytest.raises(NotImplementedError, match="no gradient of its own"):
        gradient(lambda x: ops.sum(_first_gradient(x, case)), np.nan_to_num(case.scores))


def _first_gradient(scores, case):
    def total(x):
        return ops.sum(crf_log_likelihood(case.tags, x, LENGTHS, **case.chain))

    if BACKEND == "jax":
        import jax

        return jax.grad(total)(scores) ** 2
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = total(scores)
    return tape.gradient(value, scores) ** 2
