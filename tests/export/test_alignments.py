"""Alignments in the answers of exported models, and the tokens of their axes."""

import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.export.text_outputs import TextOutputs
from tests.export.conftest import TEXTS

pytestmark = pytest.mark.server  # each test exports a model

SIZES = {"buckets": (4, 8), "batch_sizes": (2,), "max_length": 5, "warmup": False, "alignments": True}


@pytest.fixture(scope="module")
def framed(tokenizer):
    """The tokenizer of the tests' model, with begin and end tokens."""
    return type(tokenizer).from_config({**tokenizer.get_config(), "add_bos": True, "add_eos": True, "max_length": 8})


@pytest.fixture(scope="module")
def folder(small, tokenizer, framed, strategy, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "aligned"
    return kseq.export_saved_model(small, base, strategy=strategy, source=framed, target=tokenizer, **SIZES)


@pytest.mark.parametrize("signature_name", ["serving_default", "serving_xla"])
def test_alignments_are_the_models_own(folder, small, framed, strategy, signature_name):
    served = kseq.load_saved_model(folder, signature_name=signature_name)(text=TEXTS)["alignments"]
    assert served.shape == (len(TEXTS), 2, 5, 8)
    own = np.asarray(small.decode(*framed(TEXTS), strategy=strategy, max_length=5).alignments)
    np.testing.assert_allclose(served, own, atol=1e-5)
    for row, length in zip(served, framed(TEXTS)[1], strict=True):
        assert not row[..., length:].any()


def test_answers_contain_source_and_target_tokens(folder):
    answer = kseq.load_saved_model(folder)(text=["aB?", "b", "c" * 20])
    assert answer["source_tokens"].tolist() == [
        ["<s>", "a", "b", "?", "</s>", "", "", ""],  # as normalised, unknown tokens included
        ["<s>", "b", "</s>", "", "", "", "", ""],
        ["<s>", "c", "c", "c", "c", "c", "c", "</s>"],
    ]
    for names, lengths, texts in zip(answer["target_tokens"], answer["lengths"], answer["text"], strict=True):
        for tokens, length, text in zip(names, lengths, texts, strict=True):
            assert [token != "" for token in tokens] == [step < length for step in range(5)]
            assert "".join(token for token in tokens if token not in ("<pad>", "<s>", "</s>")) == text


class Other(tf.Module):
    """A model that defines `serving` itself, with or without attention."""

    built = True

    def __init__(self, *names):
        super().__init__()
        self.names = names

    def serving(self, options):
        inputs = {"tokens": kseq.models.StepInputs(dtype="int32")}
        return kseq.models.Serving(inputs, lambda tensors: dict.fromkeys(self.names, tensors["tokens"]))


def test_a_model_without_attention_is_refused(tmp_path):
    message = r"alignments=True need the model's alignments, but it answers with \['tokens'\]"
    with pytest.raises(ValueError, match=message):
        kseq.export_saved_model(Other("tokens"), tmp_path / "m", strategy=None, **SIZES)


def test_a_model_without_tokenizers_answers_without_tokens(tmp_path):
    folder = kseq.export_saved_model(Other("tokens", "alignments"), tmp_path / "m", strategy=None, **SIZES)
    assert set(kseq.load_saved_model(folder)(tokens=[[4, 5, 6]], lengths=[3])) == {"tokens", "alignments", "error"}


def test_alignments_of_a_models_own_answer_stay():
    answer = {"tokens": [1], "alignments": [2]}
    assert TextOutputs(kseq.models.Serving({}, dict)).add_to(answer, None) == answer
