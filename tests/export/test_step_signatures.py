"""The signatures for single steps: a client that runs the loop gets the answer of the model's own search."""

import os

import numpy as np
import pytest
import tensorflow as tf

import kseq
from tests.export.conftest import TEXTS

pytestmark = pytest.mark.server  # each test exports a model

v1 = tf.compat.v1
UNK, BOS, EOS = 1, 2, 3
# All outputs begin with the unknown token.
SEARCH = kseq.decoding.GreedySearch(constraints=(kseq.decoding.constraints.FirstToken(UNK),))


@pytest.fixture(scope="module")
def served(model, tokenizer, tmp_path_factory):
    """An ensemble's signatures in a TensorFlow 1 session: `served(name, **inputs)`."""
    both = kseq.models.Ensemble([model, model], weights=[1, 2])
    options = {"source": tokenizer, "target": tokenizer, "buckets": (16,), "batch_sizes": (4,), "max_length": 6}
    options |= {"one_step": True, "replace_unknown": True, "warmup": False}
    folder = kseq.export_saved_model(both, tmp_path_factory.mktemp("models") / "steps", strategy=SEARCH, **options)
    session = v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        signatures = v1.saved_model.load(session, ["serve"], os.fspath(folder)).signature_def

    def run(name, **inputs):
        signature = signatures[name]
        feeds = {signature.inputs[key].name: value for key, value in inputs.items()}
        return session.run({key: info.name for key, info in signature.outputs.items()}, feeds)

    yield run
    session.close()


def test_a_client_that_drives_the_loop_writes_what_greedy_search_does(served):
    text = np.array(TEXTS, object)
    carried = served("serving_start", text=text)
    assert not any(carried.pop("error"))
    tokens, written, scores = np.full(len(TEXTS), BOS, "int32"), [], np.zeros(len(TEXTS))
    done = np.zeros(len(TEXTS), "bool")
    for position in range(6):
        answer = served("serving_step", tokens=tokens, **carried)
        carried |= {name: value for name, value in answer.items() if name.startswith("state_")}
        best = answer["log_probabilities"].argmax(axis=1).astype("int32")
        tokens = best if position else np.full_like(best, UNK)
        scores += np.where(done, 0, np.take_along_axis(answer["log_probabilities"], tokens[:, None], axis=1)[:, 0])
        written.append(np.where(done, 0, tokens))
        done |= tokens == EOS
        assert answer["alignments"].shape == (len(TEXTS), 16)
    expected = served("serving_default", text=text)
    np.testing.assert_array_equal(np.stack(written, axis=1), expected["tokens"][:, 0])
    np.testing.assert_allclose(scores, expected["scores"][:, 0], atol=1e-4)


def test_an_ensemble_of_a_model_with_itself_is_the_model(served, model, tokenizer):
    expected = model.decode(*tokenizer(TEXTS[:2]), strategy=SEARCH, max_length=6)
    answer = served("serving_default", text=np.array(TEXTS[:2], object))
    np.testing.assert_array_equal(answer["tokens"], expected.tokens)
    np.testing.assert_allclose(answer["scores"], expected.scores, atol=1e-4)


def test_unknown_tokens_are_replaced_by_what_they_look_at(served, model, tokenizer):
    decoded = model.decode(*tokenizer(TEXTS[:2]), strategy=SEARCH, max_length=6)
    strings = tokenizer.strings(TEXTS[:2])
    expected = kseq.text.replace_unknown(tokenizer, decoded.tokens, decoded.alignments, strings).numpy()
    answer = served("serving_default", text=np.array(TEXTS[:2], object))
    np.testing.assert_array_equal(answer["text"], expected)
    assert set(answer) == {"text", "tokens", "lengths", "scores", "error"}
    assert all(text.decode()[0] in source for (text,), source in zip(expected, TEXTS, strict=False))


def test_says_what_does_not_go_together(model, tokenizer, tmp_path):
    with pytest.raises(ValueError, match="give both tokenizers"):
        kseq.export_saved_model(model, tmp_path, strategy=SEARCH, replace_unknown=True, source=tokenizer)


def test_a_token_that_there_is_not_is_refused_for_its_row_alone(served):
    carried = served("serving_start", text=np.array(["b", "abc"], object))
    del carried["error"]
    good = served("serving_step", tokens=np.array([2, 2], "int32"), **carried)
    answer = served("serving_step", tokens=np.array([99, 2], "int32"), **carried)
    assert answer["error"].tolist() == [b"tokens is 99, but the ids of the model's target vocabulary are 0 to 7.", b""]
    assert np.isnan(answer["log_probabilities"][0]).all()
    for name, value in answer.items():
        np.testing.assert_array_equal(value[1], good[name][1], err_msg=name)
    after = carried | {name: value for name, value in answer.items() if name.startswith("state_")}
    again = served("serving_step", tokens=np.array([2, 2], "int32"), **after)
    assert again["error"].tolist() == [b"The model's answer to this row has NaN in log_probabilities.", b""]
