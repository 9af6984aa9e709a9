"""keras-hub's samplers over a kseq step, and kseq's strategies over a keras-hub model."""

import keras
import numpy as np
import pytest
from keras import ops

from kseq.decoding import CausalLMStep, beam_search, greedy_search, sample_with_keras_hub
from tests.decoding.models import EOS, IDS, RandomRNN, quick

keras_hub = pytest.importorskip("keras_hub", reason='needs keras-hub: pip install "kseq[hub]"', exc_type=ImportError)

MODEL = RandomRNN(seed=61, batch=3)
SIZE, START = 12, 0


def endless(tokens, state, memory):
    output = MODEL.step(tokens, state, memory)
    return output._replace(logits=ops.where(ops.arange(5) == EOS, -1e9, output.logits))


def drive(sampler, step, **options):
    def run(state, memory):
        return sample_with_keras_hub(sampler, step, state, memory=memory, **IDS, max_length=6, **options)

    return quick(run)(MODEL.state, MODEL.memory)


@pytest.mark.every_backend
def test_a_greedy_sampler_writes_what_greedy_search_does():
    ours = quick(lambda *x: greedy_search(MODEL.step, x[0], memory=x[1], **IDS, max_length=6))
    expected = ours(MODEL.state, MODEL.memory).tokens[:, 0]
    assert (np.asarray(expected) == EOS).any()
    np.testing.assert_array_equal(drive(keras_hub.samplers.GreedySampler(), MODEL.step), expected)


@pytest.mark.long
def test_a_beam_sampler_writes_what_beam_search_does_where_nothing_ends():
    sampler = keras_hub.samplers.BeamSampler(num_beams=3, return_all_beams=True)
    tokens, log_probabilities = drive(sampler, endless)
    search = quick(lambda *x: beam_search(endless, x[0], memory=x[1], **IDS, max_length=6, beam_width=3, top_paths=3))
    expected = search(MODEL.state, MODEL.memory)
    np.testing.assert_array_equal(tokens[:, :, 1:], expected.tokens)
    np.testing.assert_allclose(log_probabilities, expected.scores, atol=1e-4)


@pytest.fixture(scope="module")
def language_model():
    keras.utils.set_random_seed(1)
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=SIZE, num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=16, max_sequence_length=16
    )
    model = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    random = np.random.default_rng(0)
    model.set_weights([0.7 * random.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.long
def test_strategies_drive_a_causal_language_model(language_model):
    """Against the model's own full pass, without a cache, for prompts of unequal lengths."""
    step = CausalLMStep(language_model)
    prompt, lengths = np.array([[3, 4, 5], [6, 0, 0], [7, 8, 0]]), np.array([3, 1, 2])
    options = {"bos_id": START, "eos_id": 1, "max_length": 7, "prompt": prompt, "prompt_lengths": lengths}

    def search(state):
        return beam_search(step, state, **options, beam_width=3, top_paths=2)

    decoded = quick(search)(step.initial_state(3, 7))
    for row, n in np.ndindex(3, 2):
        length = int(decoded.lengths[row, n])
        tokens = np.concatenate([[START], np.asarray(decoded.tokens)[row, n, :length]])[None]
        inputs = {"token_ids": tokens[:, :-1], "padding_mask": np.ones((1, length), "bool")}
        logits = np.asarray(language_model(inputs), "float64")[0]
        log_probabilities = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
        own = log_probabilities[np.arange(length), tokens[0, 1:]][lengths[row] :]
        assert float(decoded.scores[row, n]) == pytest.approx(own.sum(), abs=1e-4)


@pytest.mark.long
def test_greedy_search_writes_what_keras_hub_generates(language_model):
    language_model.compile(sampler="greedy", run_eagerly=True)
    tokens = np.zeros((2, 7), "int32")
    tokens[:, 1] = [4, 9]
    mask = np.zeros((2, 7), "bool")
    mask[:, :2] = True
    generated = language_model.generate({"token_ids": tokens, "padding_mask": mask}, stop_token_ids=None)
    step = CausalLMStep(language_model)
    options = {"bos_id": START, "eos_id": SIZE - 1, "max_length": 6, "prompt": tokens[:, 1:2]}
    decoded = greedy_search(step, step.initial_state(2, 6), **options)
    for row in range(2):
        length = int(decoded.lengths[row, 0])
        assert np.asarray(generated["token_ids"])[row, 1 : 1 + length].tolist() == (
            np.asarray(decoded.tokens)[row, 0, :length].tolist()
        )


@pytest.mark.long
@pytest.mark.long_on_jax
def test_the_padding_may_be_the_end_and_ends_may_be_several():
    for ends, pad in ((EOS, EOS), ([4, EOS], 4), ([EOS, 4], 0)):
        options = {"bos_id": 1, "eos_id": ends, "max_length": 6, "pad_id": pad}
        run = quick(lambda *x, o=options: greedy_search(MODEL.step, x[0], memory=x[1], **o))
        expected = np.asarray(run(MODEL.state, MODEL.memory).tokens)[:, 0]
        sampler = keras_hub.samplers.GreedySampler()
        tokens = sample_with_keras_hub(sampler, MODEL.step, MODEL.state, memory=MODEL.memory, **options)
        np.testing.assert_array_equal(tokens, expected)
        assert (expected != pad).any()


@pytest.mark.parametrize("lengths", [None, [2, 0, 1]])
def test_a_prompt_comes_first(lengths):
    prompt = np.array([[3, 4], [4, 4], [0, 3]])
    options = {**IDS, "max_length": 6, "prompt": prompt, "prompt_lengths": lengths and np.array(lengths)}
    expected = np.asarray(greedy_search(MODEL.step, MODEL.state, memory=MODEL.memory, **options).tokens)[:, 0]
    np.testing.assert_array_equal(drive_greedy(**options), expected)


def drive_greedy(**options):
    sampler = keras_hub.samplers.GreedySampler()
    options = {**IDS, "max_length": 6, **options}
    return sample_with_keras_hub(sampler, MODEL.step, MODEL.state, memory=MODEL.memory, **options)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"prompt": np.zeros((3, 7), "int32")}, ValueError, "prompt has 7 columns, but max_length=6"),
        ({"prompt": np.zeros((2, 2), "int32")}, ValueError, "prompt has 2 rows, but the state has 3"),
        ({"prompt": [[0.5], [1.0], [1.0]]}, ValueError, r"prompt\[0\] have dtype float64"),
        ({"prompt": [[3], [3, IDS["eos_id"]], []]}, ValueError, r"prompt\[1, 1\] is .*, which ends a hypothesis"),
        ({"eos_id": []}, ValueError, "eos_id must be a token or several"),
        ({"max_length": 2.5}, ValueError, "max_length must be a whole number"),
        ({"mask": None}, TypeError, r"\['mask'\] follow from state, prompt and eos_id"),
    ],
)
def test_says_what_is_wrong(options, error, message):
    with pytest.raises(error, match=message):
        drive_greedy(**options)
