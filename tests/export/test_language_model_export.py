"""Exported language models: prompts, the options of requests, and log-probabilities of texts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.export.padding import Padding
from kseq.export.row_errors import no_errors
from kseq.models.export_contract import ServingOptions

pytestmark = pytest.mark.long
TEXTS = ["abc", "c", "", "cab a"]


def make_model(**options):
    keras.utils.set_random_seed(3)
    tokenizer = kseq.text.CharacterTokenizer().adapt(["abc bca cab"])
    encoder = kseq.models.Encoder(tokenizer.vocabulary_size, 6, kseq.cells.LSTMCell(5), bidirectional=False)
    model = kseq.models.LanguageModel(encoder, tokenizer=tokenizer, **options)
    model.build()
    random = np.random.default_rng(5)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def export(model, path, **options):
    sizes = {"buckets": (4, 8), "batch_sizes": (4,), "max_length": 6, "warmup": False, "verbose": False}
    return kseq.export_saved_model(model, path, **{**sizes, **options})


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return export(model, tmp_path_factory.mktemp("language") / "model")


@pytest.fixture(scope="module")
def served(folder):
    return kseq.load_saved_model(folder)


def request(**changes):
    values = {"text": TEXTS, "temperature": [0.7] * 4, "top_k": [3] * 4, "top_p": [0.9] * 4, "max_length": [6] * 4}
    return {**values, "seed": [5, 6, 7, 8], **changes}


def test_requests_choose_what_sampling_does(model, served):
    sampling = kseq.decoding.Sampling(temperature=0.7, top_k=3, top_p=0.9)
    answer = served(**request())
    assert answer["text"][:, 0].tolist() == model.generate(TEXTS, strategy=sampling, max_length=6, seed=5)
    assert not any(answer["error"])
    nucleus = served(**request(top_k=[0] * 4, top_p=[0.3] * 4, temperature=[1.5] * 4))
    sampling = kseq.decoding.Sampling(temperature=1.5, top_p=0.3)
    assert nucleus["text"][:, 0].tolist() == model.generate(TEXTS, strategy=sampling, max_length=6, seed=5)
    greedy = served(**request(top_k=[1] * 4))
    assert greedy["text"][:, 0].tolist() == model.generate(TEXTS, strategy="greedy", max_length=6)
    mixed = served(**request(top_k=[1, 3, 1, 3], max_length=[2, 6, 1, 3]))
    assert mixed["text"][1, 0] == answer["text"][1, 0]
    assert mixed["text"][0, 0] == greedy["text"][0, 0][:2]
    assert (mixed["lengths"][:, 0] <= [2, 6, 1, 3]).all()
    tokens, count = mixed["tokens"][3, 0], mixed["lengths"][3, 0]
    assert tokens[:count].tolist() == answer["tokens"][3, 0][:count].tolist()
    assert not tokens[count:].any()
    ids = model.tokenizer.tokenize([TEXTS[3]]).to_list()[0]
    whole = [*ids, *tokens[:count].tolist()]
    expected = model.score(np.array([whole]), np.array([len(whole)])) - model.score(np.array([ids]), np.array([5]))
    np.testing.assert_allclose(mixed["scores"][3, 0], expected[0], rtol=1e-4)


def test_options_may_be_left_out(model, served):
    everything = request(temperature=[1.0] * 4, top_k=[0] * 4, top_p=[1.0] * 4)
    only_seed = served(text=TEXTS, seed=everything["seed"])
    assert only_seed["text"].tolist() == served(**everything)["text"].tolist()
    assert only_seed["text"][:, 0].tolist() == model.generate(TEXTS, max_length=6, seed=5)
    texts = ["abc"] * 30
    answers = [*served(text=texts)["text"][:, 0], *served(text=texts)["text"][:, 0]]
    assert len(set(answers)) > 2  # without a seed, rows and requests draw other numbers
    assert answers[:30] != answers[30:]


BAD = [  # an option, a bad value of it, and the reason that its row gets
    ("temperature", 0.0, "temperature is 0, but it must be at least 0.01 and at most 100.0."),
    ("temperature", -1.0, "temperature is -1, but it must be at least 0.01 and at most 100.0."),
    ("temperature", np.nan, "temperature is nan, but it must be at least 0.01 and at most 100.0."),
    ("top_p", 2.0, "top_p is 2, but it must be at least 0.001 and at most 1."),
    ("top_k", -1, "top_k is -1, but it must be at least 0 and at most 8."),
    ("max_length", 7, "max_length is 7, but it must be at least 1 and at most 6."),
    ("max_length", 0, "max_length is 0, but it must be at least 1 and at most 6."),
    ("text", "abcabcabc", "The text has 9 tokens, but this model takes at most 8. Shorten the text."),
]


def test_bad_rows_answer_for_themselves(served):
    good = request()
    rows = {name: [values[0], *[values[1]] * len(BAD), values[3]] for name, values in good.items()}
    for row, (name, value, _) in enumerate(BAD, 1):
        rows[name][row] = value
    answer, expected = served(**rows), served(**good)
    assert answer["error"].tolist() == ["", *[reason for *_, reason in BAD], ""]
    assert set(answer["text"][1:-1, 0]) == {""}
    assert np.isnan(answer["scores"][1:-1]).all()
    assert answer["text"][[0, -1], 0].tolist() == expected["text"][[0, 3], 0].tolist()


def test_log_probabilities_of_texts(model, folder):
    served = kseq.load_saved_model(folder, signature_name="serving_log_probability")
    answer = served(text=[*TEXTS, "abcabcabc"])
    np.testing.assert_allclose(answer["log_probability"][:4], model.log_probability(TEXTS), rtol=1e-5)
    assert answer["num_tokens"].tolist() == [4, 2, 1, 6, 0]
    assert np.isnan(answer["log_probability"][4])
    assert answer["error"][4] == "The text has 9 tokens, but this model takes at most 8. Shorten the text."


def test_without_a_begin_token_an_empty_prompt_is_refused(tmp_path):
    model = make_model(bos_id=None)
    folder = export(model, tmp_path / "model", buckets=(8,), strategy="greedy")
    answer = kseq.load_saved_model(folder)(text=TEXTS)
    assert answer["error"].tolist() == ["", "", "The row has 0 steps in prompt, but this model needs at least 1.", ""]
    rows = [0, 1, 3]
    expected = model.generate([TEXTS[row] for row in rows], strategy="greedy", max_length=6, n_best=True)
    for row, ((text, score),) in zip(rows, expected, strict=True):
        assert answer["text"][row, 0] == text
        np.testing.assert_allclose(answer["scores"][row, 0], score, rtol=1e-4)
    probability = kseq.load_saved_model(folder, signature_name="serving_log_probability")(text=TEXTS)
    np.testing.assert_allclose(probability["log_probability"], model.log_probability(TEXTS), rtol=1e-5)
    assert probability["num_tokens"].tolist() == [3, 1, 0, 5]


def test_a_prompt_with_an_end_token_has_the_true_reason(model):
    options = ServingOptions(strategy=None, source=None, target=None, max_length=None, longest=4)
    request = {"prompt": tf.constant([[4, 3, 5], [4, 5, 3]]), "lengths": tf.constant([3, 2])}
    padding = Padding({"prompt": model.serving(options).inputs["prompt"]}, (4,), "error")
    reason = b"prompt contains the token 3, which ends a text, so that nothing can follow it."
    assert padding(request, no_errors(request["prompt"]))[1].numpy().tolist() == [reason, b""]


def test_what_an_export_refuses(model, tmp_path):
    with pytest.raises(ValueError, match="alignments=True or replace_unknown=True: a LanguageModel has no use for it"):
        export(model, tmp_path / "model", alignments=True)
    with pytest.raises(ValueError, match="one_step=True needs a model with the methods encode and step"):
        export(model, tmp_path / "model", one_step=True)
    with pytest.raises(ValueError, match="an exported LanguageModel samples"):
        export(model, tmp_path / "model", strategy="beam")
    assert not list(tmp_path.rglob("saved_model.pb"))
    with pytest.raises(ValueError, match=r"RowInputs of shape \(2,\) cannot be optional"):
        kseq.models.RowInputs(dtype="float32", shape=(2,), optional=True)
