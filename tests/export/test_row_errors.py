"""Bad rows of a request: each answers for itself, and its neighbours never know."""

import numpy as np
import pytest
import tensorflow as tf

import kseq
from kseq.export.inputs.text import TextReader
from kseq.export.padding import Padding
from kseq.export.row_errors import blank_rows, no_errors
from kseq.models import RowInputs, StepInputs
from tests.export.test_saved_model import Session

IDS, LENGTHS = np.array([[4, 5, 6], [5, 6, 4], [7, 5, 0]], "int32"), np.array([3, 2, 3], "int32")


def test_a_model_may_have_further_reasons():
    def has_seven(values, lengths):
        return tf.reduce_any((values == 7) & tf.sequence_mask(lengths, tf.shape(values)[1]), axis=1)

    steps = StepInputs(dtype="int32", vocabulary_size=9, refusals=(("tokens contains 7, the end.", has_seven),))
    request = {"tokens": tf.constant([[4, 7, 6], [5, 7, 4], [7, 10, 0]]), "lengths": tf.constant([2, 1, 9])}
    _, errors = Padding({"tokens": steps}, (4,), "error")(request, no_errors(request["tokens"]))
    assert [error.decode()[:22] for error in errors.numpy()] == ["tokens contains 7, the", "", "lengths is 9, but toke"]


@pytest.fixture(scope="module")
def folder(export_small, strategy, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "rows"
    return export_small(base, strategy=strategy, buckets=(2, 4), batch_sizes=(2,), too_long="error", warmup=False)


@pytest.fixture(scope="module", params=["serving_default", "serving_xla"])
def served(request, folder):
    return Session(folder, request.param)


@pytest.mark.parametrize(
    ("ids", "length", "reason"),
    [
        ([4, 8, 6], 3, "tokens[1] is 8, but the ids of the model's vocabulary are 0 to 7."),
        ([-1, 5, 6], 3, "tokens[0] is -1, but the ids of the model's vocabulary are 0 to 7."),
        ([4, 5, 6], -1, "lengths is -1, but a length is at least 0."),
        ([4, 5, 6], 9, "lengths is 9, but tokens has fewer steps. A length is the number of a row's real steps."),
    ],
)
def test_a_bad_row_says_why_and_its_neighbours_do_not_change(served, ids, length, reason):
    good = served(tokens=IDS, lengths=LENGTHS)
    assert not any(good["error"])
    # Row 1 has two steps of three, so its bad neighbour does not change the bucket of the good row.
    bad_ids, bad_lengths = IDS.copy(), LENGTHS.copy()
    bad_ids[0], bad_lengths[0] = ids, length
    answer = served(tokens=bad_ids, lengths=bad_lengths)
    assert [text.decode() for text in answer["error"]] == [reason, "", ""]
    assert not answer["tokens"][0].any()
    assert answer["lengths"][0].tolist() == [0, 0]
    assert np.isnan(answer["scores"][0]).all()
    for name in ("tokens", "lengths", "scores"):
        np.testing.assert_array_equal(answer[name][1:], good[name][1:], err_msg=name)


def test_padding_is_not_checked(served):
    ids = np.where(np.arange(3) < LENGTHS[:, None], IDS, 99).astype("int32")
    answer, good = served(tokens=ids, lengths=LENGTHS), served(tokens=IDS, lengths=LENGTHS)
    assert not any(answer["error"])
    np.testing.assert_array_equal(answer["tokens"], good["tokens"])


def test_a_row_that_is_too_long_is_refused_alone(served):
    ids = np.tile(IDS[:, :1], (1, 9))
    answer = served(tokens=ids, lengths=np.array([9, 2, 4], "int32"))
    text = b"The row has 9 steps in tokens, but this model takes at most 4. Shorten the row."
    assert answer["error"].tolist() == [text, b"", b""]


@pytest.mark.long
@pytest.mark.parametrize("options", [{"too_long": "error"}, {"truncation": "error"}])
def test_a_text_that_is_too_long_is_refused_alone(options, export_small, tokenizer, tmp_path):
    if "truncation" in options:
        config = {**tokenizer.get_config(), **options, "max_length": 4}
        tokenizer, options = type(tokenizer).from_config(config), {}
    served = Session(export_small(tmp_path / "m", source=tokenizer, target=tokenizer, **options), "serving_default")
    good = served(text=np.array(["", "abca"], object))
    answer = served(text=np.array(["abcab", "abca"], object))
    text = b"The text has 5 tokens, but this model takes at most 4. Shorten the text."
    assert answer["error"].tolist() == [text, b""]
    assert answer["text"][0].tolist() == [b""]
    for name in ("text", "tokens", "scores"):
        np.testing.assert_array_equal(answer[name][1], good[name][1])


def checked(inputs, tensors, **options):
    padding = Padding(inputs, options.get("buckets", (2, 4)), options.get("too_long", "truncate"))
    tensors = {name: tf.constant(value) for name, value in tensors.items()}
    padded, errors = padding(tensors, no_errors(next(iter(tensors.values()))))
    return {name: value.numpy() for name, value in padded.items()}, [text.decode() for text in errors.numpy()]


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_features_must_be_finite_where_they_are_real(value, shown):
    features = np.ones([2, 3, 2], "float32")
    features[:, 1, 1] = value
    inputs = {"features": StepInputs(dtype="float32", step_shape=(2,))}
    padded, errors = checked(inputs, {"features": features, "lengths": np.array([3, 1], "int32")})
    assert errors == [f"features[1, 1] is {shown}, but the values of real steps must be finite.", ""]
    assert padded["lengths"].tolist() == [0, 1]
    assert padded["features"].shape == (2, 2, 2)  # the bucket of the good row
    np.testing.assert_array_equal(padded["features"][1], [[1, 1], [0, 0]])
    assert not padded["features"][0].any()


def test_options_of_a_request_have_a_range():
    inputs = {
        "temperature": RowInputs(dtype="float32", lowest=0, highest=2, default=1),
        "seed": RowInputs(dtype="int64"),
    }
    asked = {"temperature": np.array([0.5, -0.5, 3, np.nan], "float32"), "seed": np.array([1, -1, 2**40, 0])}
    padded, errors = checked(inputs, asked)
    expected = "but it must be at least 0 and at most 2."
    assert errors == ["", *(f"temperature is {shown}, {expected}" for shown in ("-0.5", "3", "nan"))]
    assert padded["temperature"].tolist() == [0.5, 1, 1, 1]
    assert padded["seed"].tolist() == [1, 0, 0, 0]
    with pytest.raises(ValueError, match="RowInputs cannot be strings"):
        RowInputs(dtype="string")


WORDS = {
    "tokens": StepInputs(dtype="int32", vocabulary_size=9, pad_value=0),
    "characters": StepInputs(dtype="int32", vocabulary_size=5, steps_of="tokens"),
}


def words(**changed):
    """Return two rows of three and one words, whose characters are 1."""
    tensors = {
        "tokens": np.full([2, 3], 7, "int32"),
        "tokens_lengths": np.array([3, 1], "int32"),
        "characters": np.ones([2, 3, 6], "int32"),
        "characters_lengths": np.array([[1, 3, 0], [2, 6, 6]], "int32"),
    }
    return {**tensors, **changed}


def test_sequences_of_sequences_are_padded_to_buckets_on_both_axes():
    padded, errors = checked(WORDS, words())
    assert errors == ["", ""]
    assert padded["tokens"].tolist() == [[7, 7, 7, 0], [7, 0, 0, 0]]
    assert padded["characters_lengths"].tolist() == [[1, 3, 0, 0], [2, 0, 0, 0]]
    assert padded["characters"].shape == (2, 4, 4)
    assert padded["characters"].sum(axis=2).tolist() == padded["characters_lengths"].tolist()


def test_a_bad_word_empties_its_row():
    characters, lengths = words()["characters"], words()["characters_lengths"]
    characters[0, 1, 2], lengths[1, 0] = 5, 7
    padded, errors = checked(WORDS, words(characters=characters, characters_lengths=lengths))
    assert errors == [
        "characters[1, 2] is 5, but the ids of the model's vocabulary are 0 to 4.",
        "characters_lengths[0] is 7, but a length is at least 0 and at most the number of steps of characters.",
    ]
    assert not any(value.any() for value in padded.values())
    _, errors = checked(WORDS, words(characters_lengths=lengths[:, :2]))
    assert errors[0] == "characters and characters_lengths must have a sequence for each of the 3 tokens."


def test_words_that_are_too_long_are_cut_or_refused():
    lengths = np.array([[1, 6, 0], [2, 6, 6]], "int32")
    padded, errors = checked(WORDS, words(characters_lengths=lengths))
    assert (errors, padded["characters_lengths"].tolist()) == (["", ""], [[1, 4, 0, 0], [2, 0, 0, 0]])
    _, errors = checked(WORDS, words(characters_lengths=lengths), too_long="error")
    assert errors == ["characters[1] has 6 steps, but this model takes at most 4.", ""]


@pytest.mark.parametrize(
    ("name", "may_be_cut", "cut"),
    [("prompt", None, False), ("tokens", None, True), ("tokens", False, False), ("prompt", True, True)],
)
def test_a_prompt_that_is_too_long_is_refused_alone(name, may_be_cut, cut):
    inputs = {name: StepInputs(dtype="int32", may_be_cut=may_be_cut)}
    tensors = {name: np.ones([2, 6], "int32"), "lengths": np.array([5, 4], "int32")}
    padded, errors = checked(inputs, tensors)
    assert padded["lengths"].tolist() == [4 * cut, 4]
    assert errors == [
        "" if cut else f"The row has 5 steps in {name}, but this model takes at most 4. Shorten the row.",
        "",
    ]


def test_a_text_as_a_prompt_is_refused_alone():
    tokenizer = kseq.text.CharacterTokenizer(["a"])
    reader = TextReader(
        {"prompt": StepInputs(dtype="int32")}, {"prompt": "lengths"}, {"prompt": tokenizer}, 4, "truncate"
    )
    _, errors = reader.read({"text": tf.constant(["aaaaa", "aaaa"])})
    assert errors.numpy().tolist() == [b"The text has 5 tokens, but this model takes at most 4. Shorten the text.", b""]


def test_several_series_share_a_bucket():
    inputs = {name: StepInputs(dtype="float32") for name in ("past", "future")}
    lengths = {"past_lengths": np.array([1], "int32"), "future_lengths": np.zeros([0], "int32")}
    padded, errors = checked(inputs, {**{name: np.ones([1, 3], "float32") for name in inputs}, **lengths})
    assert (padded["past"].tolist(), padded["future"].tolist()) == ([[1, 0, 0, 0]], [[1, 1, 1, 0]])
    assert (errors, padded["future_lengths"].tolist()) == ([""], [3])


def test_blank_answers_of_every_dtype():
    outputs = {
        "a": tf.ones([2, 3]),
        "b": tf.constant(["x", "y"]),
        "c": tf.constant([[7], [7]]),
        "d": tf.fill([2], True),
    }
    outputs["e"] = tf.fill([2, 1], 3)
    blank = {
        name: value.numpy().tolist() for name, value in blank_rows(outputs, tf.constant(["no", ""]), {"c": -1}).items()
    }
    np.testing.assert_array_equal(blank.pop("a"), [[np.nan] * 3, [1, 1, 1]])
    assert blank == {"b": [b"", b"y"], "c": [[-1], [7]], "d": [False, True], "e": [[0], [3]], "error": [b"no", b""]}


def test_an_answer_with_nan_is_an_error():
    answer = blank_rows(
        {"scores": tf.constant([[0, np.nan], [0, -np.inf]]), "n": tf.constant([4, 5])}, tf.constant(["", ""]), {}
    )
    assert answer["error"].numpy().tolist() == [b"The model's answer to this row has NaN in scores.", b""]
    assert answer["n"].numpy().tolist() == [0, 5]
    with pytest.raises(ValueError, match=r"answers with \['error'\], but the export adds 'error'"):
        blank_rows({"error": tf.constant([1])}, tf.constant([""]), {})


@pytest.mark.long
def test_a_recognizers_bad_row_has_no_tokens(tmp_path):
    model = kseq.models.CTCRecognizer(2, 5, kseq.layers.SimpleRNN(4, return_sequences=True))
    sizes = {"buckets": (8,), "batch_sizes": (2,), "warmup": False}
    features, lengths = np.random.default_rng(1).normal(size=(2, 6, 2)).astype("float32"), np.array([6, 6], "int32")
    folder = kseq.export_saved_model(model, tmp_path / "m", **sizes)
    good = kseq.load_saved_model(folder)(features=features, lengths=lengths)
    features[0, 3, 1] = np.nan
    answer = kseq.load_saved_model(folder)(features=features)  # without lengths, all rows are full
    assert answer["error"].tolist() == ["features[3, 1] is nan, but the values of real steps must be finite.", ""]
    assert np.all(answer["tokens"][0] == -1)
    assert np.all(answer["frames"][0] == -1)
    assert np.isnan(answer["scores"][0]).all()
    for name in ("tokens", "frames", "scores", "lengths"):
        np.testing.assert_array_equal(answer[name][1], good[name][1])
