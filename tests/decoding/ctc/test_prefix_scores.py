"""CTC probabilities of prefixes against the sum over all alignments, and joint decoding against all strings."""

import itertools

import numpy as np
import pytest
from keras import ops

import kseq
from kseq.decoding import CTCJointStep, CTCPrefixStep
from kseq.decoding.decoding import StepOutput
from tests.reference.ctc_decoding import every_string, log_softmax
from tests.support import compiled

BLANK, A, B, C, BOS, EOS = range(6)
STEP = CTCPrefixStep(bos_id=BOS, eos_id=EOS, blank_index=BLANK)
LENGTHS = np.array([5, 3, 1, 0])


@pytest.fixture
def logits():
    """Logits of four rows of up to five frames; NaN in the padding."""
    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype("float32") * 2
    values[np.arange(5) >= LENGTHS[:, None]] = np.nan
    return values


def strings_of(logits, row):
    """Return the log-probability of every string of a row, by enumeration of its alignments."""
    frames = logits[row, : LENGTHS[row], :BOS]
    if not LENGTHS[row]:
        return {(): 0.0}
    return every_string(log_softmax(frames), BLANK)


def run(logits, lengths, tokens):
    """Return the log-probabilities `(batch, steps, classes)` after bos and each of `tokens` `(batch, steps - 1)`."""
    memory = STEP.memory(logits, lengths)
    state, found = STEP.initial_state(memory), []
    for token in [np.full(logits.shape[0], BOS), *(tokens[:, place] for place in range(tokens.shape[1]))]:
        output = STEP(ops.cast(token, "int32"), state, memory)
        state = output.state
        found.append(ops.log_softmax(output.logits, axis=-1))
    return ops.stack(found, axis=1)


@pytest.mark.parametrize("string", [(), (A,), (A, A), (A, B, A), (C, C, B)])
def test_prefixes_have_the_probability_of_all_strings_that_begin_with_them(string, logits):
    tokens = np.tile(np.array(string, "int32").reshape(1, -1), (4, 1))
    got = np.exp(np.asarray(run(logits, LENGTHS, tokens)))[:, -1]
    for row in range(4):
        strings = strings_of(logits, row)
        whole = sum(np.exp(p) for s, p in strings.items() if s[: len(string)] == string)
        if whole < 1e-9:  # too few frames
            continue
        expected = np.zeros(6)
        for symbol in (A, B, C):
            longer = (*string, symbol)
            expected[symbol] = sum(np.exp(p) for s, p in strings.items() if s[: len(longer)] == longer) / whole
        expected[EOS] = np.exp(strings.get(string, -np.inf)) / whole
        np.testing.assert_allclose(got[row], expected, atol=1e-5)


@pytest.mark.long
@pytest.mark.long_on_jax
def test_a_row_alone_and_compiled_equals_the_row_in_its_batch(logits):
    tokens = np.array([[A, B], [C, C], [B, A], [A, A]], "int32")
    together = np.asarray(run(logits, LENGTHS, tokens))
    alone = compiled(run)
    one = alone(logits[1:2, : LENGTHS[1]], LENGTHS[1:2], tokens[1:2])
    np.testing.assert_allclose(one[0], together[1], rtol=1e-4)


def test_many_frames_lose_no_probability():
    """500 frames of which only a few write something: the end of the right string is certain."""
    logits = np.full((1, 500, 6), -30.0, "float32")
    logits[0, :, BLANK] = 0.0
    for frame, symbol in ((20, A), (200, B), (201, B), (480, A)):
        logits[0, frame, BLANK], logits[0, frame, symbol] = -30.0, 0.0
    got = np.exp(np.asarray(run(logits, np.array([500]), np.array([[A, B, A]], "int32"))))[0]
    for step, symbol in enumerate((A, B, A, EOS)):
        np.testing.assert_allclose(got[step, symbol], 1.0, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_joint_beam_search_finds_the_best_of_all_strings(weight, logits):
    """Against every string, with its score (1 - w) log p + w log p_ctc; a wide beam drops nothing."""
    table = np.random.default_rng(2).normal(size=(6, 6)).astype("float32")

    def bigram(tokens, state):
        return StepOutput(ops.take(ops.convert_to_tensor(table), tokens, axis=0), state, None, state)

    def with_memory(tokens, state, memory):
        return bigram(tokens, state)

    memory = STEP.memory(logits, LENGTHS)
    state = ops.zeros((4, 1)), STEP.initial_state(memory)
    joint = CTCJointStep(step=with_memory, prefixes=STEP, weight=weight)
    decoded = kseq.beam_search(
        joint,
        state,
        memory=(ops.zeros((4, 1)), memory),
        bos_id=BOS,
        eos_id=EOS,
        max_length=6,
        beam_width=60,
        top_paths=3,
    )
    by_model = log_softmax(table)
    for row in range(4):
        scored = []
        for string, by_ctc in strings_of(logits, row).items():
            path = (BOS, *string, EOS)
            own = sum(by_model[a, b] for a, b in itertools.pairwise(path))
            scored.append(((1 - weight) * own + weight * by_ctc, (*string, EOS)))
        best = sorted(scored, reverse=True)[:3]
        for place, (score, string) in enumerate(best):
            np.testing.assert_allclose(decoded.scores[row, place], score, rtol=1e-4, atol=1e-5)
            assert tuple(np.asarray(decoded.tokens)[row, place, : len(string)]) == string
        for place in range(len(best), 3):
            assert decoded.lengths[row, place] == 0
