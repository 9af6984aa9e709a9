"""The program of `test_devices.py`: two processors of TensorFlow under a MirroredStrategy, against one.

usage: python -m tests.distribution.mirrored CASE ... ; writes a line of JSON for each case
"""

import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import kseq
from tests.contracts.models import batch_of
from tests.distribution.trainings import differences, make, print_cases, resumed, tagged, tagger, train

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
CASES: dict[str, Callable[[], dict[str, Any]]] = {}
STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
GRU = kseq.cells.GRUCell


def case(function: Callable) -> Callable:
    CASES[function.__name__] = function
    return function


def both(make_model: Callable, make_batches: Callable, **options: Any) -> dict[str, float]:
    """Return the differences of a training of two replicas and one of the whole batch."""
    expected = train(make_model, make_batches, **options)
    return differences(train(make_model, make_batches, scope=STRATEGY.scope(), **options), expected)


def of_model(name: str) -> dict[str, float]:
    batch = batch_of(make(name), name)
    batches = tf.data.Dataset.from_tensor_slices(batch).batch(4)
    return both(lambda: make(name), lambda: batches, compile_options={"run_eagerly": True})


@case
def graph() -> dict[str, Any]:
    """Buckets whose last batches are completed by rows of length 0, a new order in each epoch, as a graph."""
    return both(tagger, lambda: tagged(shuffle=True, seed=1))


@case
def tokens() -> dict[str, Any]:
    """Batches of unequal numbers of rows, some not divisible by two."""
    return both(tagger, lambda: tagged(batch_size=None, tokens_per_batch=20))


@case
def fewer_rows_than_replicas() -> dict[str, Any]:
    return both(tagger, lambda: tagged(rows=3, batch_size=1))


@case
def keras_losses() -> dict[str, Any]:
    answer = {}
    for reduction in ("sum_over_batch_size", "mean_with_sample_weight"):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        found = both(tagger, tagged, compile_options={"loss": loss})
        answer |= {f"{reduction} {name}": value for name, value in found.items()}
    return answer


@case
def weights_of_rows() -> dict[str, Any]:
    weights = {"sample_weight": np.array([1.0, 0.0, 3.0, 0.5], "float32")}
    batches = tf.data.Dataset.from_tensor_slices({**batch_of(make("Tagger, CRF"), "Tagger, CRF"), **weights}).batch(4)
    return both(lambda: make("Tagger, CRF"), lambda: batches)


@case
def penalties() -> dict[str, Any]:
    """A regularizer, whose penalty is no mean over the batch, and an objective that replaces a share of the loss."""

    def model() -> Any:
        keras.utils.set_random_seed(3)
        cells = [GRU(3, kernel_regularizer=keras.regularizers.L2(0.1)) for _ in range(2)]
        model = kseq.models.Seq2Seq(
            kseq.models.Encoder(12, 4, cells[0]),
            kseq.models.Decoder(12, 4, cells[1]),
            ctc=kseq.training.JointCTC(weight=0.4),
        )
        model.build()
        return model

    return both(model, lambda: tf.data.Dataset.from_tensor_slices(batch_of(model(), "Seq2Seq")).batch(4))


@case
def optimizers() -> dict[str, Any]:
    answer = {}
    for options in ({"clipnorm": 0.05}, {"global_clipnorm": 0.05}, {"clipvalue": 0.01}, {"use_ema": True}):
        found = both(tagger, tagged, optimizer=lambda options=options: keras.optimizers.SGD(0.1, **options), epochs=2)
        answer |= {f"{options} {name}": value for name, value in found.items()}
    return answer


@case
def accumulation() -> dict[str, Any]:
    return both(tagger, tagged, optimizer=lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))


@case
def half_precision() -> dict[str, Any]:
    def optimizer() -> Any:
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, clipnorm=0.05))

    return both(tagger, tagged, optimizer=optimizer)


@case
def losses() -> dict[str, Any]:
    """The parts of the replicas of each loss and reduction, which add up to the loss of the batch."""
    answer = {}
    random = np.random.default_rng(0)
    logits = random.normal(size=(4, 6, 5)).astype("float32")
    mask = np.arange(6) < np.array([6, 3, 1, 5])[:, None]
    tags, labels = random.integers(0, 5, size=(4, 6)), np.array([[1, 2], [3, -1], [-1, -1], [4, -1]])
    weights = np.array([1.0, 2.0, 0.5, 0.0], "float32")
    kinds = [
        *((kseq.losses.SequenceCrossEntropy, tags, {"reduction": each}) for each in REDUCTIONS),
        (kseq.losses.SequenceCrossEntropy, tags, {"ignore_label": 2, "label_smoothing": 0.1}),
        *((kseq.losses.CTC, labels, {"reduction": each}) for each in ("mean_with_sample_weight", "mean", "sum")),
        (kseq.losses.AlignmentLoss, labels, {"infeasible": "zero"}),
        (kseq.losses.NegativeLogLikelihood, random.normal(size=(4, 6)).astype("float32"), {"head": HEAD}),
    ]
    for kind, y_true, options in kinds:
        loss = kind(**options)
        size = 2 if kind is kseq.losses.NegativeLogLikelihood else 5

        def of(y_true: Any, y_pred: Any, mask: Any, weight: Any, loss: Any = loss) -> Any:
            y_pred = tf.identity(y_pred)
            keras.src.backend.set_keras_mask(y_pred, mask)
            return loss(y_true, y_pred, weight)

        parts = STRATEGY.run(of, args=[by_replica(x) for x in (y_true, logits[..., :size], mask, weights)])
        got = sum(STRATEGY.experimental_local_results(parts))
        expected = of(*(tf.constant(each) for each in (y_true, logits[..., :size], mask, weights)))
        answer[f"{kind.__name__} {options}"] = abs(float(got - expected))
    return answer


@case
def metrics() -> dict[str, Any]:
    """Metrics that count in each replica are those of the whole."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(4, 6, 5)).astype("float32")
    mask = np.arange(6) < np.array([6, 3, 1, 5])[:, None]
    tags = random.integers(0, 5, size=(4, 6)).astype("int32")
    labels = np.array([[1, 2], [3, -1], [-1, -1], [4, -1]], "int32")
    names = ["O", "B-a", "I-a", "B-b", "I-b"]
    kinds = {
        "token accuracy": (kseq.metrics.TokenAccuracy, {}, tags),
        "perplexity": (kseq.metrics.Perplexity, {}, tags),
        "sequence accuracy": (kseq.metrics.SequenceAccuracy, {}, np.where(mask & (logits.max(-1) > 0.5), tags, -1)),
        "span F1": (kseq.metrics.SpanF1, {"names": names}, tags),
        "edit distance": (kseq.metrics.EditDistance, {"blank_index": 0}, labels),
        "token error rate": (kseq.metrics.TokenErrorRate, {}, tags),
    }
    answer = {}
    for name, (kind, options, y_true) in kinds.items():

        def update(y_true: Any, y_pred: Any, mask: Any, metric: Any) -> None:
            y_pred = tf.identity(y_pred)
            keras.src.backend.set_keras_mask(y_pred, mask)
            metric.update_state(y_true, y_pred)

        whole = kind(**options)
        update(*(tf.constant(each) for each in (y_true, logits, mask)), metric=whole)
        with STRATEGY.scope():
            shared = kind(**options)
        STRATEGY.run(update, args=[by_replica(x) for x in (y_true, logits, mask)], kwargs={"metric": shared})
        assert float(whole.result()) != 0 or name == "sequence accuracy", name
        answer[name] = abs(float(shared.result()) - float(whole.result()))
    return answer


REDUCTIONS = ("mean_with_sample_weight", "mean", "mean_over_rows", "sum_over_time", "sum")
HEAD = kseq.heads.Normal()


def by_replica(values: np.ndarray) -> Any:
    """Return an array of four rows in parts: three rows for the first replica, and one for the second."""
    return STRATEGY.experimental_distribute_values_from_function(
        lambda context: tf.constant(values[:3] if context.replica_id_in_sync_group == 0 else values[3:])
    )


@case
def monitors() -> dict[str, Any]:
    """Norms of gradients, and noise, which every replica adds to the same gradient."""
    found = []
    for scope in (None, STRATEGY.scope()):
        callbacks = [kseq.training.GradientMonitor(), kseq.training.GradientNoise(0.01)]

        def optimizer() -> Any:
            return keras.optimizers.SGD(0.1, global_clipnorm=0.3)

        found.append(train(tagger, tagged, scope=scope, optimizer=optimizer, callbacks=callbacks))
    assert "gradient/norm" in found[0]
    assert 0 < found[0]["gradient/clipped"].max() < 1, found[0]["gradient/clipped"]
    return differences(found[1], found[0])


@case
def not_finite() -> dict[str, Any]:
    """The batch that gave the first NaN is kept as a whole."""
    batch = batch_of(make("CTCRecognizer"), "CTCRecognizer")
    batch["features"][3] = np.nan
    batches = tf.data.Dataset.from_tensor_slices(batch).batch(4)
    with tempfile.TemporaryDirectory() as folder:
        monitor = kseq.training.GradientMonitor(folder)
        with STRATEGY.scope():
            model = make("CTCRecognizer")
            model.compile("sgd")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(batches, verbose=0, callbacks=[monitor])
        kept, _, _ = kseq.training.load_batch(monitor.found.batch)
        return {"features": float(not np.array_equal(kept["features"], batch["features"], equal_nan=True))}


@case
def decoded() -> dict[str, Any]:
    found = []
    for scope in (None, STRATEGY.scope()):
        pairs = [[4, 5], [6, 7, 8]], [[1, 0], [2, 1, 1]]
        callback = kseq.training.DecodedMetric(pairs, "exact_match", jit_compile=False)
        found.append(train(tagger, tagged, scope=scope, callbacks=[callback], epochs=1))
    assert "val_exact_match" in found[0]
    return differences(found[1], found[0])


@case
def resume() -> dict[str, Any]:
    return resumed(lambda: tagger(dropout=0.3), lambda: tagged(shuffle=True, seed=1), STRATEGY.scope)


def language_model() -> Any:
    keras.utils.set_random_seed(4)
    model = kseq.models.LanguageModel(kseq.models.Encoder(9, 4, GRU(3), bidirectional=False))
    model.build()
    return model


def continued() -> Any:
    ids = np.random.default_rng(5).integers(0, 9, size=90)
    return kseq.training.continuous_batches(ids, batch_size=4, steps=4, document_ends=[20, 90])


@case
def carried_states() -> dict[str, Any]:
    return both(language_model, continued)


@case
def resume_carried_states() -> dict[str, Any]:
    return resumed(language_model, continued, STRATEGY.scope)


@case
def uneven_carried_states() -> dict[str, Any]:
    ids = np.arange(60) % 9
    with STRATEGY.scope():
        model = language_model()
        model.compile("sgd")
    model.fit(kseq.training.continuous_batches(ids, batch_size=3, steps=4), verbose=0)
    return {}


if __name__ == "__main__":
    kseq.config.set_jit_compile(False)
    print_cases(CASES, of_model)
