"""The signatures for single steps: a client that runs the loop gets the answer of the model's own search."""

import os
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq_serving import KseqClient
from tests.export.conftest import TEXTS
from tests.export.test_saved_model import Session
from tests.kseq_serving.clients import ServerProcess

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


@pytest.fixture(scope="module")
def two_buckets(model, tokenizer, tmp_path_factory):
    """The folder of an export whose memory has the width of its bucket, 4 or 8."""
    options = {"source": tokenizer, "target": tokenizer, "batch_sizes": (4,), "max_length": 6, "one_step": True}
    path = tmp_path_factory.mktemp("models") / "two"
    return kseq.export_saved_model(model, path, buckets=(4, 8), warmup=False, **options)


@pytest.fixture(scope="module")
def with_two_buckets(two_buckets):
    """Its signatures in a session."""
    return lambda name, **inputs: Session(two_buckets, name)(**inputs)


def padded_together(*requests):
    """Return requests as one batch, padded with each tensor's first element, as TensorFlow Serving pads."""
    batch = {}
    for name in requests[0]:
        tensors = [request[name] for request in requests]
        shape = np.max([tensor.shape[1:] for tensor in tensors], axis=0).astype(int)
        missing = [[(0, 0), *((0, size) for size in shape - tensor.shape[1:])] for tensor in tensors]
        padded = [
            np.pad(tensor, by, constant_values=tensor.flat[0]) for tensor, by in zip(tensors, missing, strict=True)
        ]
        batch[name] = np.concatenate(padded)
    return batch


def started(served, *texts):
    carried = served("serving_start", text=np.array(texts, object))
    assert not any(carried.pop("error"))
    return {"tokens": np.full(len(texts), BOS, "int32"), **carried}


def test_states_that_a_server_padded_are_refused(with_two_buckets):
    short, long = started(with_two_buckets, "abc"), started(with_two_buckets, "abcabc")
    assert {4, 8} <= {size for request in (short, long) for of in request.values() for size in of.shape[1:]}
    alone = with_two_buckets("serving_step", **long)
    together = with_two_buckets("serving_step", **padded_together(short, long))
    reason = r"memory_\d has 8 steps, but it was made with 4\. A server must not pad states to batch requests: .*"
    assert re.fullmatch(reason, together["error"][0].decode())
    assert together["error"][1] == b""
    assert np.isnan(together["log_probabilities"][0]).all()
    for name in alone.keys() - {"error"}:
        np.testing.assert_allclose(together[name][1:], alone[name], atol=1e-5, err_msg=name)
    # A row that was refused stays refused, for the same or another reason.
    states = {name: of for name, of in together.items() if name.startswith("state_")}
    again = with_two_buckets("serving_step", **padded_together(short, long) | states)
    assert [bool(reason) for reason in again["error"]] == [True, False]


def test_requests_of_one_width_share_a_batch(with_two_buckets):
    one, other = started(with_two_buckets, "abc"), started(with_two_buckets, "b")
    together = with_two_buckets("serving_step", **padded_together(one, other))
    assert together["error"].tolist() == [b"", b""]
    for row, request in enumerate((one, other)):
        alone = with_two_buckets("serving_step", **request)
        np.testing.assert_allclose(together["log_probabilities"][row : row + 1], alone["log_probabilities"], atol=1e-5)


def test_several_hypotheses_of_a_source_share_its_memory(with_two_buckets):
    request = started(with_two_buckets, "abc", "abcabc")
    alone = with_two_buckets("serving_step", **request)
    twice = {name: of if name.startswith("memory_") else np.repeat(of, 2, axis=0) for name, of in request.items()}
    answer = with_two_buckets("serving_step", **twice)
    assert not any(answer["error"])
    expected = np.repeat(alone["log_probabilities"], 2, axis=0)
    np.testing.assert_allclose(answer["log_probabilities"], expected, atol=1e-5)


@pytest.mark.parametrize("part", ["tokens", "state_0", "state_1", "memory_0"])
def test_rows_that_cannot_belong_together_are_refused(with_two_buckets, part):
    request = started(with_two_buckets, "abc", "b", "abcabc")
    message = "must have the same number of rows"
    for rows in ([0], [0, 1]):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            with_two_buckets("serving_step", **request | {part: request[part][rows]})
    two = {name: of[:2] if name.startswith("memory_") else of for name, of in request.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be a multiple of the rows of memory_0, but they"):
        with_two_buckets("serving_step", **two)


def test_a_server_that_batches_all_the_same_says_so(two_buckets, tmp_path):
    """Against the documentation; both requests are in one batch, and one of them would be silently wrong."""
    (tmp_path / "batching.config").write_text(
        "max_batch_size { value: 2 } batch_timeout_micros { value: 5000000 } pad_variable_length_inputs: true"
    )
    server = ServerProcess(
        tmp_path / "log",
        "--model_name=two",
        f"--model_base_path={two_buckets.parent}",
        "--enable_batching=true",
        f"--batching_parameters_file={tmp_path}/batching.config",
    )
    try:
        server.wait_ready()
        with KseqClient(f"grpc://127.0.0.1:{server.port}") as client:
            # A batch of two rows is full at once.
            carried = client.predict("two", {"text": ["abc", "abcabc"]}, signature_name="serving_start")
            assert not any(carried.pop("error"))
            long = {"tokens": np.full(1, BOS, "int32"), **{name: of[1:] for name, of in carried.items()}}
            short = client.predict("two", {"text": ["abc", "b"]}, signature_name="serving_start")
            assert not any(short.pop("error"))
            short = {"tokens": np.full(1, BOS, "int32"), **{name: of[:1] for name, of in short.items()}}
            with ThreadPoolExecutor(2) as pool:
                asked = [
                    pool.submit(client.predict, "two", request, signature_name="serving_step")
                    for request in (short, long)
                ]
                refused, answered = (call.result(30) for call in asked)
    finally:
        assert server.stop() == 0
    assert "but it was made with 4. A server must not pad states" in refused["error"][0]
    assert np.isnan(refused["log_probabilities"]).all()
    assert answered["error"].tolist() == [""]
    expected = Session(two_buckets, "serving_step")(**long)["log_probabilities"]
    np.testing.assert_allclose(answered["log_probabilities"], expected, atol=1e-5)
