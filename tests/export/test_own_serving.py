"""Models whose own `serving` returns something else than it must."""

import numpy as np
import pytest
import tensorflow as tf

import kseq


class Own:
    """A model that returns a given `serving`, or one with a given answer."""

    built = True

    def __init__(self, answer=None, serving=None):
        self.given = serving, answer

    def serving(self, options):
        serving, answer = self.given
        values = kseq.models.StepInputs(dtype="float32")
        return serving if answer is None else kseq.models.Serving({"values": values}, answer)


def export(model, path, **options):
    options |= {"buckets": (4,), "batch_sizes": (2,), "warmup": False, "verbose": False}
    return kseq.export_saved_model(model, path / "m", **options)


@pytest.mark.parametrize("serving", [{"values": 1}, None])
def test_another_result_of_serving_is_refused(serving, tmp_path):
    kind = type(serving).__name__
    with pytest.raises(TypeError, match=rf"Own.serving\(options\) returned a {kind}, but must return a kseq.*Serving"):
        export(Own(serving=serving), tmp_path)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda inputs: inputs["values"], TypeError, r"is a \w*Tensor, but it must be a dict of tensors"),
        (lambda inputs: {}, ValueError, "is an empty dict"),
        (lambda inputs: {"a": [inputs["values"]]}, TypeError, "has a list as 'a'"),
        (lambda inputs: {"a": np.ones([2])}, TypeError, "has a ndarray as 'a'"),
        (lambda inputs: {0: inputs["values"]}, TypeError, "has the name 0"),
        (lambda inputs: {"a": tf.reduce_sum(inputs["values"])}, ValueError, r"has 'a' of shape \(\), but it must"),
        (
            lambda inputs: {"a": tf.transpose(inputs["values"])},
            ValueError,
            r"has 'a' of shape \(4, None\), but it must",
        ),
    ],
)
def test_another_answer_is_refused(answer, error, message, tmp_path):
    with pytest.raises(error, match=f"The answer of Own.serving {message}"):
        export(Own(answer), tmp_path)
    assert not (tmp_path / "m").exists()


def test_one_text_is_not_given_to_two_sequences(tokenizer, tmp_path):
    steps = {name: kseq.models.StepInputs(dtype="int32", vocabulary_size=99) for name in ("question", "prompt")}
    model = Own(serving=kseq.models.Serving(steps, lambda inputs: {"a": inputs["prompt"]}))
    with pytest.raises(ValueError, match=r"one text, for 'question', but \['prompt'\] would get it, too"):
        export(model, tmp_path, source=dict.fromkeys(steps, tokenizer))
