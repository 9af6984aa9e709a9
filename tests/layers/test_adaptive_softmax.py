"""The adaptive softmax: its equations, the probabilities of single tokens, and language models with it."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special

import kseq
from kseq.losses.cluster_log_probabilities import cluster_log_probabilities
from tests.support import BACKEND, assert_all_close, compiled, gradient

IDS, UNITS, CUTOFFS = 40, 8, (6, 15)
TEXTS = [[4, 5, 30, 7], [8], [9, 39, 4, 20, 21]]


def drawn(div_value=2.0):
    layer = kseq.layers.AdaptiveSoftmax(IDS, CUTOFFS, div_value=div_value)
    layer.build((None, UNITS))
    random = np.random.default_rng(0)
    layer.set_weights([random.normal(size=weight.shape) for weight in layer.get_weights()])
    return layer


def twin(layer, hidden):
    """Return the log-probabilities by their definition, in float64."""
    head, *tails = (weight.astype("float64") for weight in layer.get_weights())
    outer = special.log_softmax(hidden @ head, axis=-1)
    parts = [outer[..., : CUTOFFS[0]]]
    for cluster in range(2):
        projection, kernel = tails[2 * cluster : 2 * cluster + 2]
        inside = special.log_softmax(hidden @ projection @ kernel, axis=-1)
        parts.append(outer[..., CUTOFFS[0] + cluster, None] + inside)
    return np.concatenate(parts, axis=-1)


def states(*shape):
    return np.random.default_rng(1).normal(size=(*shape, UNITS)).astype("float32")


def test_all_log_probabilities_equal_the_definition():
    layer, hidden = drawn(), states(2, 3)
    assert [tuple(weight.shape) for weight in layer.weights] == [(8, 8), (8, 4), (4, 9), (8, 2), (2, 25)]
    found = layer(hidden)
    np.testing.assert_allclose(found, twin(layer, hidden), atol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(axis=-1), 1.0, rtol=1e-5)
    assert layer.compute_output_shape((2, 3, UNITS)) == (2, 3, IDS)


def test_the_probability_of_one_token_is_that_among_all():
    layer, hidden = drawn(), states(2, 20)
    tokens = np.arange(IDS, dtype="int32").reshape(2, 20)
    expected = np.take_along_axis(twin(layer, hidden), tokens[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(layer.log_probability(hidden, tokens), expected, atol=1e-5)
    outside = np.where(tokens == 3, -1, np.where(tokens == 38, IDS, tokens)).astype("int32")
    found = np.asarray(layer.log_probability(hidden, outside))
    np.testing.assert_array_equal(np.isnan(found), outside != tokens)


@pytest.mark.long_on_jax
@pytest.mark.parametrize("in_cluster", [10, *(pytest.param(count, marks=pytest.mark.long) for count in (0, 300))])
def test_values_and_gradients_of_a_cluster(in_cluster):
    """Of no token, of a part of a chunk, and of several chunks; with tokens of NaN outside the cluster."""
    random, tokens = np.random.default_rng(0), 320
    hidden, first, second = (
        random.normal(size=size).astype("float32") for size in ((tokens, UNITS), (UNITS, 4), (4, 9))
    )
    places, weight = np.full(tokens, -1, "int32"), random.normal(size=tokens).astype("float32")
    chosen = random.permutation(tokens)[:in_cluster]
    places[chosen] = random.integers(0, 9, in_cluster)
    known = np.where((places >= 0)[:, None], hidden, np.nan).astype("float32")

    def total(hidden, first, second):
        return ops.sum(cluster_log_probabilities(hidden, first, second, ops.convert_to_tensor(places)) * weight)

    def by_definition(hidden, first, second):
        rows = ops.log_softmax(ops.matmul(ops.matmul(hidden, first), second), axis=-1)
        own = ops.take_along_axis(rows, ops.convert_to_tensor(np.maximum(places, 0))[:, None], axis=1)[:, 0]
        return ops.sum(ops.where(ops.convert_to_tensor(places >= 0), own * weight, 0.0))

    np.testing.assert_allclose(total(known, first, second), by_definition(hidden, first, second), rtol=1e-4, atol=1e-4)
    expected = gradient(by_definition, hidden, first, second)
    assert_all_close(gradient(total, known, first, second), expected, atol=2e-5, rtol=1e-4)
    if BACKEND == "tensorflow" and in_cluster == 300:
        assert_all_close([compiled(total)(known, first, second)], [total(known, first, second)], rtol=1e-4)


def make_model(**options):
    keras.utils.set_random_seed(5)
    encoder = kseq.models.Encoder(IDS, 4, kseq.cells.GRUCell(UNITS), bidirectional=False)
    model = kseq.models.LanguageModel(encoder, cutoffs=CUTOFFS, div_value=2.0, **options)
    model.build()
    return model


@pytest.mark.parametrize(
    "how",
    [
        "eager",
        pytest.param("graph", marks=[pytest.mark.long, pytest.mark.every_backend]),
        pytest.param("xla", marks=pytest.mark.long),
    ],
)
def test_training_by_the_labels_alone_equals_that_by_all_probabilities(how):
    """Keras's own cross-entropy reads the probabilities of all tokens."""
    losses, weights = [], []
    for alone in (True, False):
        model = make_model()
        metrics = None if alone else [kseq.metrics.Perplexity(), kseq.metrics.TokenAccuracy()]
        options = {} if BACKEND == "jax" else {"run_eagerly": how == "eager", "jit_compile": how == "xla" and alone}
        model.compile(keras.optimizers.SGD(0.5), metrics=metrics, **options)
        found = model.train_on_batch(TEXTS, return_dict=True)
        losses.append((found["loss"], found["perplexity"]))
        weights.append(model.get_weights())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert_all_close(weights[0], weights[1], atol=1e-5)


@pytest.mark.long
def test_a_language_model_has_probabilities_of_all_tokens(tmp_path):
    model = make_model()
    model.compile("sgd", run_eagerly=True)
    model.train_on_batch(TEXTS)
    logits = model({"source": np.array([[2, 4, 30]]), "lengths": np.array([3])})
    np.testing.assert_allclose(np.exp(logits).sum(axis=-1), 1.0, rtol=1e-5)
    loss, perplexity = model.evaluate(TEXTS, verbose=0)
    np.testing.assert_allclose(loss, -np.sum(model.log_probability(TEXTS)) / 13, rtol=1e-5)
    np.testing.assert_allclose(perplexity, model.perplexity(TEXTS), rtol=1e-5)
    for strategy in ("greedy", "beam"):
        assert all(1 <= len(text) <= 3 for text in model.generate(TEXTS, strategy=strategy, max_length=3))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.log_probability(TEXTS) == model.log_probability(TEXTS)
    np.testing.assert_allclose(loaded.evaluate(TEXTS, verbose=0), [loss, perplexity], rtol=1e-5)


@pytest.mark.long
def test_a_wrong_row_makes_the_loss_nan_and_has_no_gradient():
    model = make_model()
    model.compile("sgd")
    rows = {"source": np.array([[4, 5], [6, 30]]), "target": np.array([[5, 8], [30, 8]]), "lengths": np.array([2, 2])}
    import tensorflow as tf

    @tf.function
    def step(rows):
        with tf.GradientTape() as tape:
            model.shared_batch = kseq.models.inputs.shared_batch.SharedBatch(rows)
            loss = model.compute_loss(rows, None, model(rows, training=True))
            model.shared_batch = None
        return loss, [tf.reduce_sum(each) for each in tape.gradient(loss, model.trainable_weights)]

    rows["target"][1, 0] = 99
    loss, slopes = step({name: tf.constant(value) for name, value in rows.items()})
    assert np.isnan(loss)
    assert np.isfinite(slopes).all()


def test_what_does_not_fit_is_refused():
    make = kseq.layers.AdaptiveSoftmax
    for cutoffs in ((), (0, 5), (5, 5), (7, 5), (5, IDS)):
        with pytest.raises(ValueError, match="must be increasing ids above 0 and below vocabulary_size=40"):
            make(IDS, cutoffs)
    with pytest.raises(ValueError, match=r"div_value=0\.5 must be at least 1"):
        make(IDS, CUTOFFS, div_value=0.5)
    with pytest.raises(ValueError, match=r"would have \[2, 0\] dimensions: units=8"):
        make(IDS, CUTOFFS).build((None, 8))
    with pytest.raises(ValueError, match="tie_embeddings=True: only cutoffs give an adaptive softmax"):
        make_model(tie_embeddings=True)
    with pytest.raises(ValueError, match=r"cutoffs=None, div_value=2.0"):
        kseq.models.LanguageModel(
            kseq.models.Encoder(IDS, 4, kseq.cells.GRUCell(4), bidirectional=False), div_value=2.0
        )
    with pytest.raises(ValueError, match=r"label_smoothing=0\.1 needs logits of the whole vocabulary"):
        kseq.losses.SequenceCrossEntropy(label_smoothing=0.1)(np.zeros((1, 2), int), np.zeros((1, 2)))
