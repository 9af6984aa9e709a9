"""Numbers of NumPy as options of strategies, steps and constraints, and numbers that are none."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from kseq.decoding import (
    BeamSearch,
    ContrastiveSearch,
    DiverseBeamSearch,
    EnsembleStep,
    FusionStep,
    MinimumLength,
    Sampling,
    StochasticBeamSearch,
    SuppressedTokens,
    beam_search,
    greedy_search,
    sample,
    token_log_probabilities,
)
from kseq.decoding.constraints import AllowedOutputs, FirstToken, FrequencyPenalty, LastToken, NoRepeatedNGram
from tests.decoding.models import IDS, RandomRNN, run_model

MODEL = RandomRNN(seed=3)
WRONG = (np.nan, np.inf, -np.inf, "0.5", True, None, [0.5])


@pytest.mark.long
def test_numbers_of_numpy_are_those_of_python():
    numbers = {"bos_id": np.int64(1), "eos_id": np.array(2), "pad_id": np.int8(0), "max_length": np.uint8(5)}
    options = {"length_penalty": np.float32(0.5), "beam_width": np.int32(3), "top_paths": np.array(2)}
    plain = {"length_penalty": 0.5, "beam_width": 3, "top_paths": 2}
    got = beam_search(
        MODEL.step, MODEL.state, memory=MODEL.memory, **numbers, **options, early_stopping=np.bool_(False)
    )
    expected = beam_search(
        MODEL.step, MODEL.state, memory=MODEL.memory, **IDS, max_length=5, early_stopping=False, **plain
    )
    np.testing.assert_array_equal(got.tokens, expected.tokens)
    np.testing.assert_array_equal(got.scores, expected.scores)
    strategy = BeamSearch(**options, constraints=(MinimumLength(np.int64(2)), NoRepeatedNGram(np.int16(3))))
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(strategy)))
    assert keras.saving.deserialize_keras_object(saved) == strategy


@pytest.mark.parametrize("wrong", WRONG, ids=repr)
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Sampling, "temperature"),
        (Sampling, "top_p"),
        (Sampling, "min_p"),
        (Sampling, "typical_p"),
        (Sampling, "top_k"),
        (StochasticBeamSearch, "temperature"),
        (BeamSearch, "length_penalty"),
        (BeamSearch, "coverage_penalty"),
        (BeamSearch, "beam_width"),
        (BeamSearch, "min_length"),
        (DiverseBeamSearch, "diversity_strength"),
        (ContrastiveSearch, "penalty_alpha"),
        (FrequencyPenalty, "presence"),
        (MinimumLength, "length"),
        (NoRepeatedNGram, "size"),
    ],
)
def test_other_values_are_refused(make, name, wrong):
    with pytest.raises(ValueError, match=f"{name} must be a (finite|whole) number"):
        make(**{name: wrong})


@pytest.mark.parametrize("name", ["patience", "score_margin"])
@pytest.mark.parametrize("wrong", [np.nan, -np.inf, "1", True], ids=repr)
def test_optional_numbers_are_none_or_finite(name, wrong):
    assert getattr(BeamSearch(), name) is None
    assert BeamSearch(**{name: np.inf}) == BeamSearch(**{name: np.float32("inf")}) == BeamSearch()  # no limit
    with pytest.raises(ValueError, match=f"{name} must be a finite number"):
        BeamSearch(**{name: wrong})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BeamSearch(length_penalty=11.0), "length_penalty must be between -10 and 10"),
        (lambda: FusionStep(step=MODEL.step, language_model=MODEL.step, weight=np.inf), "weight must be a finite"),
        (lambda: EnsembleStep(steps=[MODEL.step] * 2, weights=[1.0, np.inf]), "weights must be a finite number"),
        (lambda: MinimumLength(-1), "length must be 0 or more"),
        (lambda: FirstToken(1.5), "token of FirstToken must be a whole number"),
        (lambda: LastToken(1.5), "token must be a whole number"),
        (lambda: SuppressedTokens((1.5,)), "tokens of SuppressedTokens must be a sequence of ids"),
        (lambda: AllowedOutputs([[1.5]]), "An output of AllowedOutputs must be a sequence of ids"),
        (lambda: AllowedOutputs("abc"), "AllowedOutputs needs a list of outputs"),
    ],
)
def test_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_constraints_take_one_token_or_several_in_any_kind_of_sequence():
    assert SuppressedTokens(np.int64(3)).tokens == SuppressedTokens({3}).tokens == (3,)
    assert FirstToken(np.array([1, 2])).tokens == FirstToken(range(1, 3)).tokens == (1, 2)
    for wrong, message in (
        (MinimumLength(1), r"got a MinimumLength alone. Write \(it,\)"),
        ((MinimumLength,), "objects"),
    ):
        with pytest.raises(TypeError, match=message):
            BeamSearch(constraints=wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"eos_id": 2.7}, "eos_id must be a whole number"),
        ({"eos_id": [2, 2.7]}, "eos_id must be a sequence of ids"),
        ({"bos_id": 1.5}, "bos_id must be a whole number"),
        ({"pad_id": np.nan}, "pad_id must be a whole number"),
        ({"max_length": "4"}, "max_length must be a whole number"),
        ({"score_prompt": 1}, "score_prompt must be True or False"),
        ({"seed": 1.5}, "seed must be an int"),
        ({"prompt": np.array([[1.5], [3.0]])}, "prompt must be whole numbers, but got float"),
        ({"prompt": [[3], [3, 4.5]]}, r"prompt\[1\] have dtype float64 \(such as 4.5 at \[1\]\)"),
        ({"prompt": [[3], None]}, "A row of prompt is None"),
        ({"prompt": "a text"}, "Turn texts into ids by a tokenizer first"),
        ({"prompt": ["a", "b"]}, "Turn texts into ids by a tokenizer first"),
        ({"prompt": [[3], [3, 4]], "prompt_lengths": [2, 1]}, r"prompt_lengths\[0\] = 2, but prompt\[0\] has 1 tokens"),
        ({"prompt": np.array([[2**32 + 3], [3]])}, "prompt must fit into int32"),
        ({"prompt": [[3], [4]], "prompt_lengths": [1.5, 1.0]}, "prompt_lengths must be whole numbers"),
    ],
)
def test_says_what_is_wrong_with_a_call(call, message):
    for search in (greedy_search, sample):
        with pytest.raises(ValueError, match=message):
            run_model(search, MODEL, **{**IDS, "max_length": 4, **call})


def test_given_outputs_are_whole_numbers_with_lengths_that_fit():
    tokens, lengths = np.array([[3, 2], [4, 2]]), np.array([2, 1])
    call = {"memory": MODEL.memory, "bos_id": 1}
    for wrong, message in (
        ((tokens + 0.5, lengths), "tokens must be whole numbers"),
        ((tokens, lengths / 2), "lengths must be whole numbers"),
        ((tokens, np.array([3, 1])), "lengths must be between 0 and the 2 columns of tokens, but 3"),
    ):
        with pytest.raises(ValueError, match=message):
            token_log_probabilities(MODEL.step, MODEL.state, *wrong, **call)
    ops.convert_to_tensor(token_log_probabilities(MODEL.step, MODEL.state, tokens, lengths, **call))
