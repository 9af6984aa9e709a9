"""An exported recognizer, from features to text, scores and frames."""

import keras
import numpy as np
import pytest

import kseq

pytestmark = pytest.mark.server  # each test exports a model

BUCKETS, SIZES = (8, 16), (2,)


@pytest.fixture(scope="module")
def tokenizer():
    return kseq.text.CharacterTokenizer().adapt(["abc"])


@pytest.fixture(scope="module")
def model(tokenizer):
    keras.utils.set_random_seed(3)
    layer = kseq.layers.Bidirectional(kseq.layers.RNN(kseq.cells.GRUCell(5), return_sequences=True))
    front_end = kseq.frontends.FrameConvolutions([4], strides=2)
    made = kseq.models.CTCRecognizer(3, tokenizer.vocabulary_size, layer, front_end=front_end)
    made.build()
    made.set_weights([3.0 * weight for weight in made.get_weights()])
    return made


@pytest.fixture(scope="module")
def strategy():
    return kseq.decoding.CTCBeamSearch(beam_width=4, top_paths=2)


@pytest.fixture(scope="module")
def folder(model, tokenizer, strategy, tmp_path_factory):
    base = tmp_path_factory.mktemp("models") / "lines"
    options = {"target": tokenizer, "buckets": BUCKETS, "batch_sizes": SIZES}
    return kseq.export_saved_model(model, base, strategy=strategy, **options)


@pytest.fixture
def asked():
    """Three rows, one more than the largest batch size, with NaN in the padding and additional columns."""
    features = np.random.default_rng(0).normal(size=(3, 19, 3)).astype("float32")
    lengths = np.array([11, 4, 0], "int32")
    features[np.arange(19) >= lengths[:, None]] = np.nan
    return {"features": features, "lengths": lengths}


@pytest.mark.parametrize("signature_name", ["serving_default", "serving_xla"])
def test_it_answers_as_the_model_does(signature_name, folder, model, tokenizer, strategy, asked):
    answer = kseq.load_saved_model(folder, signature_name=signature_name)(**asked)
    assert sorted(answer) == ["error", "frames", "lengths", "scores", "text", "tokens"]
    assert np.any(answer["lengths"] > 0)
    assert answer["tokens"].shape == (3, 2, 8)  # from the bucket of 16
    for row, length in enumerate(asked["lengths"]):
        own = model.decode(
            asked["features"][row : row + 1, :length], asked["lengths"][row : row + 1], strategy=strategy
        )
        width = own.tokens.shape[2]
        np.testing.assert_array_equal(answer["tokens"][row, :, :width], own.tokens[0])
        np.testing.assert_array_equal(answer["frames"][row, :, :width], own.frames[0])
        assert np.all(answer["tokens"][row, :, width:] == -1)
        np.testing.assert_allclose(answer["scores"][row], own.scores[0], rtol=1e-4)
        texts = [text.decode() for text in tokenizer.detokenize(own.tokens[0]).numpy()]
        assert list(answer["text"][row]) == texts


def test_a_row_that_is_too_long_is_cut_or_refused(tmp_path):
    model = kseq.models.CTCRecognizer(3, 5, kseq.layers.SimpleRNN(4, return_sequences=True))
    features = np.random.default_rng(1).normal(size=(1, 12, 3)).astype("float32")
    asked = {"features": features, "lengths": np.array([12], "int32")}
    options = {"strategy": None, "buckets": (8,), "batch_sizes": (1,), "warmup": False}
    cut = kseq.load_saved_model(kseq.export_saved_model(model, tmp_path / "cut", **options))(**asked)
    own = model.decode(features[:, :8], np.array([8]))
    np.testing.assert_array_equal(cut["tokens"], own.tokens)
    refused = kseq.export_saved_model(model, tmp_path / "refused", too_long="error", **options)
    answer = kseq.load_saved_model(refused)(**asked)
    assert answer["error"].tolist() == [
        "The row has 12 steps in features, but this model takes at most 8. Shorten the row."
    ]


def test_warmup_has_features_of_each_bucket_and_batch_size(folder):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    shapes = set()
    for record in tf.data.TFRecordDataset(str(folder / "assets.extra" / "tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        shapes.add(tuple(dimension.size for dimension in request.inputs["features"].tensor_shape.dim))
    assert shapes == {(size, bucket, 3) for size in SIZES for bucket in BUCKETS}


def test_options_that_recognizers_do_not_have_are_refused(model, tokenizer, strategy, tmp_path):
    for options in ({"source": tokenizer}, {"max_length": 5}):
        with pytest.raises(ValueError, match="A recognizer reads features"):
            kseq.export_saved_model(model, tmp_path, strategy=strategy, **options)
    other = kseq.text.CharacterTokenizer().adapt(["abcd"])
    with pytest.raises(ValueError, match="has 8 ids and the pad token 0, but the model has 7 classes and the blank 0"):
        kseq.export_saved_model(model, tmp_path, strategy=strategy, target=other)
