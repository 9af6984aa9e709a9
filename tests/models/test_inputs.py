"""Inputs of models: lists, RaggedTensors and pairs; wrong ids and lengths, known or in a compiled graph."""

import re

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.ids import read_rows
from kseq.models import seq2seq
from kseq.models.inputs import source_inputs
from kseq.models.inputs.checked_batches import checked_batches
from kseq.models.inputs.shared_batch import SharedBatch
from tests.models.conftest import SOURCES, make_model
from tests.support import compiled

GREEDY = kseq.decoding.GreedySearch()
SOURCE, TARGET = [[4, 5, 6], [7], [8, 9]], [[2, 5, 3], [2, 6, 7, 3], [2, 3]]


def padded(rows):
    lengths = np.array([len(row) for row in rows])
    return np.array([[*row, *[0] * (lengths.max() - len(row))] for row in rows]), lengths


NAMES = ("source", "source_lengths", "target", "target_lengths")
ARRAYS = dict(zip(NAMES, [*padded(SOURCE), *padded(TARGET)], strict=True))


def small(**options):
    model = make_model(num_layers=1)
    model.compile("adam", **options)
    return model


@pytest.fixture(scope="module")
def refusing():
    """A model for tests that refuse what they are given before the first step."""
    return small()


def ragged(rows):
    import tensorflow as tf

    return tf.ragged.constant(rows)


@pytest.mark.long
def test_lists_ragged_tensors_and_pairs_are_like_padded_arrays():
    model = small(run_eagerly=True)
    expected = model.evaluate(ARRAYS, verbose=0)
    for data in (
        ({"source": SOURCE, "target": TARGET},),
        ({"source": ragged(SOURCE), "target": ragged(TARGET)},),
        (SOURCE, TARGET),
        (ARRAYS["source"], ARRAYS["target"]),
        ({"source": SOURCE}, TARGET),
        ({"source": np.array([np.array(row) for row in SOURCE], object), "target": TARGET},),
        ({name: value.tolist() for name, value in ARRAYS.items()},),
    ):
        np.testing.assert_allclose(model.evaluate(*data, verbose=0), expected, rtol=1e-6)
    history = model.fit(SOURCE, TARGET, validation_data=(SOURCE, TARGET), verbose=0).history
    np.testing.assert_allclose(history["val_loss"], model.evaluate(ARRAYS, verbose=0)[:1], rtol=1e-6)
    model.train_on_batch(SOURCE, TARGET)


@pytest.mark.long
def test_decoding_takes_lists_and_ragged_tensors(refusing):
    model = refusing
    expected = model.decode(ARRAYS["source"], ARRAYS["source_lengths"], strategy=GREEDY, max_length=4)
    for source in (SOURCE, ragged(SOURCE), ARRAYS["source"]):
        decoded = model.decode(source, strategy=GREEDY, max_length=np.int64(4))
        np.testing.assert_array_equal(decoded.tokens, expected.tokens)
        np.testing.assert_allclose(decoded.scores, expected.scores, atol=1e-6)


@pytest.mark.long
def test_tagger_and_recognizer_take_lists_and_pairs():
    characters = kseq.models.CharacterEncoder(9, 4, kseq.cells.GRUCell(3))
    encoder = kseq.models.WordEncoder(20, 4, kseq.cells.GRUCell(3), characters=characters)
    tagger = kseq.models.Tagger(encoder, 5)
    tagger.compile("adam", run_eagerly=True)
    source, lengths = padded(SOURCE)
    spelt = np.zeros((3, 3, 2), int)
    spelt[0, 0], spelt[0, 1, 0] = [1, 2], 3
    arrays = {"source": source, "source_lengths": lengths, "characters": spelt}
    arrays["characters_lengths"] = np.array([[2, 1, 0], [0, 0, 0], [0, 0, 0]])
    tags = [[1, 2, 3], [4], [0, 0]]
    expected = tagger.evaluate({**arrays, "tags": padded(tags)[0]}, verbose=0)
    words = {"source": SOURCE, "characters": [[[1, 2], [3], []], [[]], [[], []]], "tags": tags}
    np.testing.assert_allclose(tagger.evaluate(words, verbose=0), expected, rtol=1e-6)
    counts = [*tags[:2], [0]]
    message = r"tags\[2\] has 1 values, but source\[2\] has 2"
    for wrong in (({**words, "tags": counts},), ({**arrays, "tags": counts},), (words | {"tags": ragged(counts)},)):
        with pytest.raises(ValueError, match=message):
            tagger.fit(*wrong, verbose=0)
    np.testing.assert_allclose(
        tagger.evaluate({**arrays, "tags": padded(tags)[0].tolist()}, verbose=0), expected, rtol=1e-6
    )
    with pytest.raises(ValueError, match=r"characters\[0\] has 2 values, but source\[0\] has 3"):
        tagger.fit({**words, "characters": [[[1, 2], [3]], [[]], [[], []]]}, verbose=0)
    plain = kseq.models.Tagger(kseq.models.Encoder(20, 4, kseq.cells.GRUCell(3)), 5)
    with pytest.raises(ValueError, match=message):
        plain.fit(SOURCE, counts)
    with pytest.raises(ValueError, match=message):
        plain.fit(source, counts)
    del words["tags"]
    assert tagger.predict(words, verbose=0).shape == (3, 3, 5)

    layer = kseq.layers.GRU(4, return_sequences=True)
    model = kseq.models.CTCRecognizer(3, 5, layer)
    model.compile("adam", run_eagerly=True)
    frames = [np.ones((count, 3), "float32") for count in (6, 4)]
    inputs = {"features": np.ones((2, 6, 3), "float32"), "lengths": np.array([6, 4])}
    labels = {"labels": np.array([[1, 2], [3, 0]]), "label_lengths": np.array([2, 1])}
    expected = model.evaluate({**inputs, **labels}, verbose=0)
    for data in (
        (frames, [[1, 2], [3]]),
        (inputs, [[1, 2], [3]]),
        (inputs, labels),
        (inputs, np.array([[1, 2], [3, -1]])),
    ):
        np.testing.assert_allclose(model.evaluate(*data, verbose=0), expected, rtol=1e-6)
    whole = model.decode(**inputs)
    np.testing.assert_array_equal(model.decode(frames).tokens, whole.tokens)
    for ask in (model, lambda x: model.decode(**x)):
        with pytest.raises(
            ValueError, match=r"must be \(batch, time, 3\), but have shape \(2, 6, 2\).* feature_size=3"
        ):
            ask({**inputs, "features": inputs["features"][:, :, :2]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": ARRAYS["source"] + 0.9}, r"The values of source have dtype float64 \(such as 4.9 at \[0, 0\]\)"),
        ({"target": np.where(ARRAYS["target"] == 5, np.nan, ARRAYS["target"])}, r"target .*such as nan at \[0, 1\]"),
        ({"source_lengths": np.array([1.5, 1, 2])}, "source_lengths have dtype float64"),
        ({"source": ARRAYS["source"] > 4}, "source have dtype bool"),
        ({"source": ["a b", "c"]}, r"list of rows of shapes .*tokenize texts"),
        (
            {"source": SOURCE, "source_lengths": np.array([3, 2, 2])},
            r"source_lengths\[1\] = 2, but source\[1\] has 1 val",
        ),
        ({"source": ARRAYS["source"][:2], "source_lengths": ARRAYS["source_lengths"][:2]}, "equally many rows"),
        ({"source": ARRAYS["source"].astype("uint64") + 2**40}, r"source\[0, 0\] = 1099511627780 is not a token id"),
    ],
)
def test_what_is_no_id_is_refused(change, message, refusing):
    for method in (refusing.fit, refusing.evaluate, refusing.predict, refusing.train_on_batch):
        with pytest.raises(ValueError, match=message):
            method({**ARRAYS, **change})


def test_decoding_refuses_what_does_not_fit(refusing):
    model, lengths = refusing, ARRAYS["source_lengths"]
    for source, given, message in (
        (ARRAYS["source"], lengths + 5, r"source_lengths\[0\] = 8, but source has 3 columns"),
        (ARRAYS["source"] + SOURCES, lengths, rf"source\[0, 0\] = {SOURCES + 4} is not a token id"),
        (ARRAYS["source"] + 0.5, lengths, "source have dtype float64"),
        ([4, 5], None, "source is a list of rows of shapes"),
    ):
        with pytest.raises(ValueError, match=message):
            model.decode(source, given, strategy=GREEDY, max_length=3)
    for strategy in (None, kseq.decoding.GreedySearch, kseq.decoding.CTCBeamSearch()):
        with pytest.raises(TypeError, match=r"BeamSearch\(|reads frames of logits|GreedySearch\(\)"):
            model.decode(SOURCE, strategy=strategy, max_length=3)
    with pytest.raises(ValueError, match=r"lack the target.*use model.decode\(source, source_lengths"):
        model.predict({"source": SOURCE})


@pytest.mark.long
@pytest.mark.every_backend
def test_a_wrong_row_of_a_graph_is_nan_and_hurts_no_other():
    model = make_model(num_layers=1)
    wrong = {name: value.copy() for name, value in ARRAYS.items()}
    wrong["source"][1, 0] = SOURCES
    wrong["source_lengths"][2] = -1
    decode = compiled(lambda s, n: model.decode(s, n, strategy=GREEDY, max_length=3))
    expected, got = (decode(x["source"], x["source_lengths"]) for x in (ARRAYS, wrong))
    np.testing.assert_array_equal(np.isnan(np.asarray(got.scores)[:, 0]), [False, True, True])
    np.testing.assert_array_equal(got.tokens[0], expected.tokens[0])
    probability = compiled(lambda s, n: kseq.sequence_log_probability(model, (s, n), (ARRAYS["target"], [3, 4, 2])))
    values = np.asarray(probability(wrong["source"], wrong["source_lengths"]))
    np.testing.assert_array_equal(np.isnan(values), [False, True, True])
    logits = np.asarray(compiled(lambda x: model(x))(wrong))
    assert np.isnan(logits[1:]).all()
    np.testing.assert_allclose(logits[0], np.asarray(model(ARRAYS))[0], atol=1e-5)


@pytest.mark.long
def test_a_wrong_row_of_a_stream_makes_the_loss_nan_and_leaves_the_weights_finite():
    model = small()
    for name, place in (("source", (1, 0)), ("target", (1, 1)), ("target_lengths", 1)):
        wrong = {key: value.copy() for key, value in ARRAYS.items()}
        wrong[name][place] = 77
        with pytest.warns(UserWarning, match="The loss of the first batch is nan. Look for ids or labels outside"):
            history = model.fit(((wrong,) for _ in range(9)), steps_per_epoch=1, verbose=0).history
        assert np.isnan(history["loss"][0])
        assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.long
def test_unsigned_lengths_do_not_wrap():
    import tensorflow as tf

    model = small(run_eagerly=True)
    rows = {name: np.concatenate([value, 0 * value[:1]]) for name, value in ARRAYS.items()}  # the last is empty
    unsigned = {name: value.astype("uint8") for name, value in rows.items()}
    expected = model.evaluate(rows, verbose=0)
    for data in (unsigned, tf.data.Dataset.from_tensors(unsigned)):
        np.testing.assert_allclose(model.evaluate(data, verbose=0), expected, rtol=1e-6)


@pytest.mark.long
def test_datasets_are_checked_before_they_run():
    import tensorflow as tf

    model = small()
    dataset = tf.data.Dataset.from_tensors({**ARRAYS, "source": ARRAYS["source"].astype("float32")})
    rows = tf.data.Dataset.from_tensors({**ARRAYS, "source": ragged(SOURCE)})
    for method in (model.fit, model.evaluate):
        with pytest.raises(ValueError, match="The values of source have dtype float32"):
            method(dataset)
        with pytest.raises(ValueError, match="The dataset has RaggedTensors for source"):
            method(rows)
    with pytest.raises(ValueError, match="The values of source have dtype float32"):
        model.fit(ARRAYS, validation_data=dataset, verbose=0)

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return ({**ARRAYS, **self.change},)

    Batches.change = {"source": ARRAYS["source"] + SOURCES}
    with pytest.raises(ValueError, match=rf"source\[0, 0\] = {SOURCES + 4} is not a token id"):
        model.fit(Batches())
    Batches.change = {"target": np.full_like(ARRAYS["target"], 4)}
    with pytest.raises(ValueError, match=r"target\[0\] is .* begins with the token 2 \(bos\)"):
        model.fit(Batches())
    model.evaluate(Batches(), verbose=0)


@pytest.mark.long
def test_targets_to_train_on_begin_with_bos_and_end_with_eos(refusing):
    model = refusing
    for row, column, value in ((0, 0, 5), (1, 3, 6)):
        target = ARRAYS["target"].copy()
        target[row, column] = value
        wrong = {**ARRAYS, "target": target}
        message = rf"target\[{row}\] is .* begins with the token 2 \(bos\) and ends with 3"
        for method in (model.fit, model.train_on_batch):
            with pytest.raises(ValueError, match=message):
                method(wrong)
        model.evaluate(wrong, verbose=0)
    free = kseq.models.Seq2Seq(model.encoder, model.decoder, check_target=False)
    assert kseq.models.Seq2Seq.from_config(free.get_config()).check_target is False
    free.compile("adam", run_eagerly=True)
    free.train_on_batch(wrong)
    free.fit(dataset_of(wrong), verbose=0)


def dataset_of(*batches):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices({name: np.stack([batch[name] for batch in batches]) for name in ARRAYS})


@pytest.mark.long_on_jax
@pytest.mark.parametrize(
    "stream_of", [dataset_of, lambda *batches: iter(batches), lambda *batches: Batches(batches[1])]
)
def test_targets_of_every_batch_of_a_stream_begin_and_end(stream_of):
    wrong = {**ARRAYS, "target": np.where(ARRAYS["target"] == 3, 4, ARRAYS["target"])}
    # A row that completes a batch, and one whose length is impossible, are not looked at.
    odd = {**ARRAYS, "target_lengths": np.array([3, 0, 9])}
    model = make_model(num_layers=1)
    model.compile("adam", run_eagerly=keras.backend.backend() == "tensorflow")  # its loss is NaN, without a trace
    with pytest.raises(ValueError, match=r"^target\[0\] is \[2, 5, 4\], .* ends with 3 \(eos\).*check_target=False"):
        model.fit(stream_of(ARRAYS, wrong), verbose=0)
    if stream_of is dataset_of:
        next(iter(model.checked_dataset(dataset_of(odd))))


def test_losses_and_metrics_of_probabilities_are_refused():
    model = make_model(num_layers=1)
    name = "sparse_categorical_crossentropy"
    losses = keras.losses
    for loss in (name, getattr(losses, name), losses.SparseCategoricalCrossentropy(), losses.BinaryCrossentropy()):
        with pytest.raises(ValueError, match=r"expects probabilities, but the model returns logits.*SequenceCrossEn"):
            model.compile("adam", loss=loss)
    for metric in (name, "crossentropy", keras.metrics.SparseCategoricalCrossentropy()):
        with pytest.raises(ValueError, match=r"The metric .* expects probabilities"):
            model.compile("adam", metrics=[metric])
    for metric in (kseq.metrics.Bleu(), kseq.metrics.WordErrorRate()):
        with pytest.raises(ValueError, match=r"compares decoded answers.*kseq\.training\.DecodedMetric"):
            model.compile("adam", metrics=[metric])
    with pytest.raises(ValueError, match=r"is Keras's CTC, .* Use kseq.losses.CTC\(\)"):
        model.compile("adam", loss="ctc")
    model.compile("adam", loss=losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy", "mse"])
    model.compile("adam", loss=lambda y_true, y_pred: ops.mean(y_pred))


def test_tags_may_be_ignored():
    model = kseq.models.Tagger(kseq.models.Encoder(20, 4, kseq.cells.GRUCell(3)), 5)
    model.compile("adam")
    data = {"source": SOURCE, "tags": [[1, -100, 3], [4], [0, -100]]}
    with pytest.raises(
        ValueError, match=r"tags\[0, 1\] = -100 is not a tag.*SequenceCrossEntropy\(ignore_label=-100\)"
    ):
        model.fit(data)
    model.compile("adam", loss=kseq.losses.SequenceCrossEntropy(ignore_label=-100), run_eagerly=True)
    assert model.predict(SOURCE, verbose=0).shape == (3, 3, 5)
    accuracy = model.evaluate(data, verbose=0, return_dict=True)["token_accuracy"]
    assert np.isclose(accuracy * 4, round(accuracy * 4))  # of four tokens


def test_weights_are_finite_and_classes_have_none(refusing):
    model = refusing
    for weights in (np.array([1, np.nan, 1]), np.ones(2), 1.0):
        with pytest.raises(ValueError, match=r"sample_weight has shape .* must be finite numbers, with the 3 rows"):
            model.fit(ARRAYS, sample_weight=weights)
    with pytest.raises(ValueError, match="a Seq2Seq has no such classes"):
        model.fit(ARRAYS, class_weight={0: 1.0})
    for name in ("bos_id", "eos_id", "pad_id"):
        with pytest.raises(ValueError, match=f"{name} must be a whole number"):
            kseq.models.Seq2Seq(model.encoder, model.decoder, **{name: 2.5})
    assert kseq.models.Seq2Seq(model.encoder, model.decoder, bos_id=np.int64(4)).bos_id == 4


@pytest.mark.long
def test_sizes_may_be_numpy_scalars(tmp_path):
    i, f = np.int64, np.float32
    cell = kseq.cells.GRUCell(3)
    characters = kseq.models.CharacterEncoder(i(9), i(4), cell, dropout=f(0.1))
    words = kseq.models.WordEncoder(i(9), i(4), cell, characters=characters, word_dropout=f(0.1), unk_id=i(1))
    for index, model in enumerate(
        [
            kseq.models.Seq2Seq(
                kseq.models.Encoder(i(9), i(4), cell, num_layers=i(2), dropout=f(0.1)),
                kseq.models.Decoder(i(9), i(4), cell, num_layers=i(1), dropout=f(0.1)),
            ),
            kseq.models.Tagger(words, i(4), dropout=f(0.1)),
            kseq.models.CTCRecognizer(i(6), i(5), kseq.layers.GRU(4, return_sequences=True), dropout=f(0.1)),
        ]
    ):
        model.build()
        model.save(tmp_path / f"{index}.keras")
        keras.saving.load_model(tmp_path / f"{index}.keras")
    with pytest.raises(ValueError, match="num_tags must be a whole number"):
        kseq.models.Tagger(words, 2.9)


@pytest.mark.long
@pytest.mark.every_backend
def test_the_loss_of_an_epoch_weighs_tokens_not_rows_that_complete_batches():
    random = np.random.default_rng(0)
    lengths = [2, 2, 5, 5, 5, 5, 5]
    rows = {
        "source": [random.integers(4, SOURCES, size=length).tolist() for length in lengths],
        "target": [[2, *random.integers(4, 8, size=length).tolist(), 3] for length in lengths],
    }
    model = small()
    model.compile("adam")
    whole = model.evaluate(rows, batch_size=7, verbose=0)[0]
    batches = kseq.training.bucket_by_length(rows, batch_size=4, buckets=(4, 8))  # with 2, 3 and 4 real rows
    np.testing.assert_allclose(model.evaluate(batches, verbose=0)[0], whole, rtol=1e-5)


def test_a_step_checks_its_batch_once(monkeypatch):
    model, names = small(), []
    for module in (seq2seq, source_inputs):
        monkeypatch.setattr(module, "read_rows", lambda *x, name: names.append(name) or read_rows(*x, name=name))
    model.optimizer.build(model.trainable_variables)
    model.train_step(({name: ops.convert_to_tensor(value) for name, value in ARRAYS.items()},))
    assert names == ["source", "target"]
    assert model.shared_batch is None
    model.compute_mask(ARRAYS)
    assert len(names) == 4

    ids = ARRAYS["source"]
    batch = SharedBatch({"source": ids})
    assert batch.has({"source": ids})
    assert not any(batch.has(x) for x in ({"source": ids.copy()}, {"source": ids, "target": ids}, {"target": ids}, ids))


class Batches(keras.utils.PyDataset):
    """Batches of arrays, the second of which is given."""

    def __init__(self, second):
        super().__init__()
        self.shared_batches = [ARRAYS, {**ARRAYS, **second}]

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.shared_batches[index]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"source": ARRAYS["source"] + 0.9}, "source have dtype float64"),
        ({"source_lengths": ARRAYS["source_lengths"] * 0.5}, "source_lengths have dtype float64"),
        ({"source": ARRAYS["source"] + 2**32}, "do not fit into int32"),
    ],
)
def test_every_batch_of_a_stream_is_checked(second, message, trained):
    data = Batches(second)
    for stream in (data, iter([data[0], data[1]])):
        with pytest.raises(ValueError, match=message):
            trained.fit(stream, verbose=0)


@pytest.fixture(scope="module")
def trained():
    return small()


def test_a_checked_dataset_behaves_as_the_one_it_checks():
    class Counting(Batches):
        epochs = ()

        def on_epoch_begin(self):
            self.epochs += ("begin",)

        def on_epoch_end(self):
            self.epochs += ("end",)

    data = Counting({})
    data.workers, data.use_multiprocessing, data.max_queue_size = 3, True, 5
    checked = checked_batches(data, lambda batch: None)
    checked.on_epoch_begin()
    checked.on_epoch_end()
    assert data.epochs == ("begin", "end")
    for name in ("workers", "use_multiprocessing", "max_queue_size", "num_batches"):
        assert getattr(checked, name) == getattr(data, name)
    assert checked[1] is data[1]


@pytest.mark.long
def test_weights_are_loaded_into_a_model_that_was_never_called(tmp_path):
    trained, fresh = small(), make_model(num_layers=1)
    trained.save_weights(tmp_path / "model.weights.h5")
    fresh = type(fresh).from_config(fresh.get_config())
    assert not fresh.built
    fresh.load_weights(tmp_path / "model.weights.h5")
    for weight, expected in zip(fresh.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("kind", ["seq2seq", "recognizer", "ensemble"])
def test_keras_export_names_the_export_of_kseq(kind, tmp_path):
    model = make_model(num_layers=1)
    if kind == "ensemble":
        model = kseq.models.Ensemble([model])
    elif kind == "recognizer":
        model = kseq.models.CTCRecognizer(3, 5, kseq.layers.GRU(4, return_sequences=True))
    with pytest.raises(ValueError, match=r"Use kseq.export_saved_model\(model, path\)"):
        model.export(tmp_path / "model")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"source": ARRAYS["source"], "target": ARRAYS["target"]}, "the model also reads ['source_lengths', 'target_l"),
        ((ARRAYS["source"], ARRAYS["target"]), "with ['source'] and their lengths. Map them, as dataset.map(lambda x"),
        ({"source": ARRAYS["source"], "targets": ARRAYS["target"]}, "have ['source', 'targets'], but the model also"),
        ({name: array[0] for name, array in ARRAYS.items()}, "without a batch axis. Call dataset.padded_batch"),
    ],
)
def test_what_the_batches_of_a_dataset_lack_is_said_before_training(data, message):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensors(data)
    with pytest.raises(ValueError, match=re.escape(message)):
        small().fit(dataset, verbose=0)
