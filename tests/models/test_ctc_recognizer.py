"""The CTC recognizer with every front end."""

import keras
import numpy as np
import pytest

import kseq
from kseq.masking import implicit_mask
from kseq.models.inputs.ctc_checks import as_frames
from tests.reference.ctc_decoding import collapse
from tests.support import compiled, gradient

FEATURES, CLASSES, TIME = 6, 5, 13
FRONT_ENDS = {
    "none": lambda: None,
    "stacking": lambda: kseq.frontends.FrameStacking(3),
    "convolutions": lambda: kseq.frontends.FrameConvolutions((4, 5), kernel_size=4, strides=(2, 1)),
    "chain": lambda: [kseq.frontends.FrameStacking(2), kseq.frontends.FrameConvolutions((4,), strides=1)],
    "pictures": lambda: kseq.frontends.FrameConvolutions((3, 4), strides=(1, 2), height_strides=2),
}


def make_model(front_end="convolutions", *, units=5, **options):
    encoder = kseq.layers.Bidirectional(kseq.layers.RNN(kseq.cells.GRUCell(units), return_sequences=True))
    model = kseq.models.CTCRecognizer(FEATURES, CLASSES, encoder, front_end=FRONT_ENDS[front_end](), **options)
    model.build()
    return model


@pytest.fixture(scope="module", params=FRONT_ENDS)
def model(request):
    """A model shared by tests that do not change it, with large weights, so that it emits labels."""
    keras.utils.set_random_seed(7)
    made = make_model(request.param)
    made.set_weights([3.0 * weight for weight in made.get_weights()])
    return made


@pytest.fixture
def batch():
    """Rows of 13, 8, 0 and 11 frames."""
    return {
        "features": np.random.default_rng(0).normal(size=(4, TIME, FEATURES)).astype("float32"),
        "lengths": np.array([13, 8, 0, 11], "int32"),
        "labels": np.array([[1, 2, 1], [3, 0, 0], [0, 0, 0], [4, 4, 0]], "int32"),
        "label_lengths": np.array([3, 1, 0, 2], "int32"),
    }


def real_frames(model, batch):
    frames = model.frames(batch["lengths"])
    return np.arange(model.frames(batch["features"].shape[1])) < frames[:, None]


def decoded_rows(decoded):
    return [np.asarray(x)[:, 0] for x in decoded]


def test_frames_are_counted_as_they_come_out(model, batch):
    logits = model(batch)
    assert logits.shape == (4, model.frames(TIME), CLASSES)
    np.testing.assert_array_equal(implicit_mask(logits), real_frames(model, batch))
    for time in range(1, 9):
        one = {"features": batch["features"][:1, :time], "lengths": np.array([time])}
        assert model(one).shape[1] == model.frames(time) == -(-time // model.subsampling)


def test_padding_never_changes_an_answer(model, batch):
    """Neither the values in the padding, NaN included, nor its width matter."""
    logits, real = np.asarray(model(batch)), real_frames(model, batch)
    padding = np.arange(TIME) >= batch["lengths"][:, None]
    for value in (np.nan, np.inf, 7.0):
        other = {**batch, "features": np.where(padding[..., None], np.float32(value), batch["features"])}
        np.testing.assert_array_equal(np.asarray(model(other))[real], logits[real])
    for more in (1, 2, 5):
        wide = np.pad(other["features"], [(0, 0), (0, more), (0, 0)], constant_values=np.nan)
        longer = np.asarray(model({**other, "features": wide}))[:, : real.shape[1]]
        np.testing.assert_allclose(longer[real], logits[real], atol=2e-5)


@pytest.mark.mostly_long("none")
def test_a_row_alone_equals_the_row_in_its_batch_compiled_or_not(model, batch):
    logits, real = np.asarray(model(batch)), real_frames(model, batch)

    def run(features, lengths):
        return model({"features": features, "lengths": lengths})

    run = compiled(run) if isinstance(model.front_end, kseq.frontends.FrameConvolutions) else run
    for row in (1, 3):
        length = batch["lengths"][row]
        alone = run(batch["features"][row : row + 1, :length], batch["lengths"][row : row + 1])
        np.testing.assert_allclose(np.asarray(alone)[0], logits[row][real[row]], atol=5e-5)


@pytest.mark.long
def test_nan_in_the_padding_changes_no_gradient(batch):
    model = make_model()
    padding = np.arange(TIME) >= batch["lengths"][:, None]

    def loss(features):
        logits = model({**batch, "features": features})
        return keras.ops.sum(kseq.losses.CTC().call(model.labels(batch), logits))

    (clean,) = gradient(loss, batch["features"])
    (other,) = gradient(loss, np.where(padding[..., None], np.float32(np.nan), batch["features"]))
    np.testing.assert_array_equal(other, clean)
    assert np.all(clean[padding] == 0)
    assert np.mean(np.abs(clean[~padding]).max(axis=-1) > 0) > 0.9  # a frame may activate no unit


def test_decoding_reads_what_the_logits_say(model, batch):
    tokens, lengths, _, frames = decoded_rows(model.decode(batch["features"], batch["lengths"]))
    logits = np.asarray(model(batch))
    for row, count in enumerate(model.frames(batch["lengths"])):
        expected = collapse(logits[row, :count].argmax(axis=-1), blank=0)
        assert tuple(tokens[row, : lengths[row]]) == tuple(expected)
        assert np.all(np.diff(frames[row, : lengths[row]]) > 0)
    assert lengths[0] > 0
    assert lengths[2] == 0


@pytest.mark.long
def test_a_strategy_gets_logits_and_the_frames_of_each_row(batch):
    model = make_model()
    strategy = kseq.decoding.CTCBeamSearch(beam_width=4, top_paths=3)
    best = model.decode(batch["features"], batch["lengths"], strategy=strategy)
    assert best.tokens.shape == (4, 3, model.frames(TIME))
    frames = model.frames(batch["lengths"])
    for got, expected in zip(best, strategy(model(batch), frames), strict=True):
        np.testing.assert_array_equal(got, expected)
    run = compiled(lambda features, lengths: model.decode(features, lengths, strategy=strategy))
    again = run(batch["features"], batch["lengths"])
    np.testing.assert_array_equal(again.tokens, best.tokens)
    np.testing.assert_allclose(again.scores, best.scores, atol=1e-4)


def toy_lines(count, random):
    """Return lines of one to three symbols of two to four frames, with silence between them and NaN in the padding."""
    features = np.full((count, 20, FEATURES), np.nan, "float32")
    lengths, labels = np.zeros(count, "int32"), np.zeros((count, 3), "int32")
    label_lengths = random.integers(1, 4, count).astype("int32")
    for row, symbols in enumerate(label_lengths):
        labels[row, :symbols] = random.integers(1, CLASSES, symbols)
        shown = [[label] * random.integers(2, 5) + [0] * random.integers(1, 3) for label in labels[row, :symbols]]
        places = np.concatenate(shown)
        lengths[row] = len(places)
        features[row, : len(places)] = np.eye(FEATURES)[places] + random.normal(scale=0.1, size=(len(places), FEATURES))
    return {"features": features, "lengths": lengths, "labels": labels, "label_lengths": label_lengths}


@pytest.mark.long
def test_fit_learns_to_read_and_evaluate_counts_the_errors():
    """With NaN in the padding and repeated labels, measured on unseen lines."""
    random = np.random.default_rng(3)
    train, unseen = toy_lines(128, random), toy_lines(50, random)
    model = make_model(units=12, dropout=0.05)
    model.compile(keras.optimizers.Adam(0.02), jit_compile=False)
    model.fit(train, batch_size=32, epochs=25, verbose=0)
    measured = model.evaluate(unseen, batch_size=10, verbose=0, return_dict=True)
    assert measured["token_error_rate"] < 0.1
    tokens, lengths, *_ = decoded_rows(model.decode(unseen["features"], unseen["lengths"]))
    metric = kseq.metrics.EditDistance()
    metric.update_state(unseen["labels"], tokens, unseen["label_lengths"], lengths)
    np.testing.assert_allclose(measured["token_error_rate"], float(metric.result()), rtol=1e-6)


@pytest.mark.long
def test_the_loss_is_the_mean_of_rows_that_are_real(batch):
    model = make_model(blank_index=2)
    start = model.get_weights()
    model.compile("adam", run_eagerly=True)
    batch["labels"] = np.array([[1, 3, 1], [3, -1, 99], [7, 7, 7], [4, 4, -5]], "int32")  # any padding
    measured = model.evaluate(batch, batch_size=4, verbose=0, return_dict=True)
    real = {name: value[[0, 1, 3]] for name, value in batch.items()}
    frames = model.frames(real["lengths"])
    labels = np.where(np.arange(3) < real["label_lengths"][:, None], real["labels"], 0)
    losses = kseq.ctc_loss(labels, model(real), real["label_lengths"], frames, blank_index=2)
    np.testing.assert_allclose(measured["loss"], np.mean(losses), rtol=1e-5)
    measured = model.evaluate(batch, batch_size=2, verbose=0, return_dict=True)  # with 2 real rows, and with 1
    np.testing.assert_allclose(measured["loss"], np.mean(losses), rtol=1e-5)
    # Keras ignores weights if there is no y; here they count, as an argument and among the inputs.
    weights, expected = np.array([1, 0, 1, 1]), np.mean(np.asarray(losses)[[0, 2]])
    for inputs, options in ((batch, {"sample_weight": weights}), ({**batch, "sample_weight": weights}, {})):
        for method in (model.evaluate, model.test_on_batch, model.fit, model.train_on_batch):
            model.set_weights(start)
            got = method(inputs, **options, **({} if "batch" in method.__name__ else {"verbose": 0}))
            loss = got.history["loss"] if method == model.fit else got
            np.testing.assert_allclose(np.ravel(loss)[0], expected, rtol=1e-5, err_msg=method.__name__)
    history = model.fit(batch, validation_data=(batch, None, weights), verbose=0).history
    measured = model.evaluate(batch, sample_weight=weights, verbose=0)[0]
    np.testing.assert_allclose(history["val_loss"][0], measured, rtol=1e-5)


@pytest.mark.long
def test_a_negative_label_in_a_dataset_is_an_error_not_an_end(batch):
    import tensorflow as tf

    batch["labels"][0, 1] = -3
    model = make_model()
    model.compile("adam")
    with pytest.warns(UserWarning, match="Some labels are no class of the logits"):
        assert np.isinf(model.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0)[0])


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_any_front_end_is_saved(front_end, batch, tmp_path):
    model = make_model(front_end)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(batch), model(batch))


def test_empty_batches_and_rows_and_integer_pixels(model, batch):
    assert model({name: value[:0] for name, value in batch.items()}).shape == (0, model.frames(TIME), CLASSES)
    none = {"features": batch["features"][:, :0], "lengths": 0 * batch["lengths"]}
    assert model(none).shape == (4, 0, CLASSES)
    assert np.all(np.asarray(model.decode(**none).lengths) == 0)
    pixels = np.random.default_rng(4).integers(0, 3, size=(4, TIME, FEATURES)).astype("uint8")
    floats = model({**batch, "features": pixels.astype("float32")})
    np.testing.assert_array_equal(model({**batch, "features": pixels}), floats)


@pytest.mark.long
def test_no_rows_and_no_frames_where_the_graph_does_not_know_it(model, batch):
    import tensorflow as tf

    specs = [tf.TensorSpec([None, None, FEATURES], tf.float32), tf.TensorSpec([None], tf.int32)]
    read = tf.function(lambda features, lengths: model.decode(features, lengths), input_signature=specs)
    run = tf.function(lambda features, lengths: model({"features": features, "lengths": lengths}), specs)
    for rows, time in ((0, TIME), (3, 0), (0, 0)):
        asked = np.zeros((rows, time, FEATURES), "float32"), np.zeros(rows, "int32")
        assert run(*asked).shape == (rows, model.frames(time), CLASSES)
        assert read(*asked).tokens.shape == (rows, 1, model.frames(time))
        assert np.all(read(*asked).lengths == 0)
    np.testing.assert_allclose(run(batch["features"], batch["lengths"]), model(batch), atol=5e-5)


@pytest.mark.long
def test_absent_lengths_mean_all_frames_and_labels_before_the_first_negative_one(batch):
    model = make_model("none")
    model.compile("adam", run_eagerly=True)
    full = {**batch, "lengths": np.full(len(batch["lengths"]), batch["features"].shape[1])}
    full["features"] = np.nan_to_num(full["features"])
    full["labels"] = np.where(np.arange(3) < batch["label_lengths"][:, None], batch["labels"], -1)
    less = {name: value for name, value in full.items() if not name.endswith("lengths")}
    expected = model.evaluate(full, verbose=0)
    for data in (less, ((less,) for _ in range(9))):  # arrays, and a batch that no check sees
        np.testing.assert_allclose(model.evaluate(data, steps=1, verbose=0), expected, rtol=1e-6)
    tokens = model.decode(full["features"], full["lengths"]).tokens
    np.testing.assert_array_equal(model.decode(less["features"]).tokens, tokens)


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("features", lambda x: x[:, :, :5], r"features must be \(batch, time, 6\).* \(4, 13, 5\)"),
        ("features", lambda x: changed(x, (1, 7, 2), np.nan), r"features\[1, 7\] has NaN .* lengths\[1\] = 8"),
        ("features", lambda x: None, r"must be a dict of \['features', 'lengths'\]"),
        ("lengths", lambda x: x + 1, r"lengths\[0\] = 14, but features has 13 columns"),
        ("lengths", lambda x: x.astype("float32"), "lengths have dtype float32"),
        ("lengths", lambda x: changed(x, 3, 4), "Row 3: frames=2 after .* label_length=2, repeats=1; 1 such rows"),
        ("labels", lambda x: changed(x, (0, 1), CLASSES), rf"labels\[0, 1\] = {CLASSES}, but .* classes 0 to 4"),
        ("labels", lambda x: changed(x, (3, 1), 0), r"labels\[3, 1\] = 0, but .* 0 is the blank"),
        ("labels", lambda x: x.astype("float32"), "labels have dtype float32"),
        ("labels", lambda x: x[:3], r"with the 4 rows of features, but their shapes are \(3, 3\)"),
        ("label_lengths", lambda x: x + 1, r"label_lengths\[0\] = 4, but labels has 3 columns"),
        ("labels", lambda x: None, r"lack \['labels'\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name, change, message, batch):
    model = make_model()
    model.compile("adam")
    wrong = {key: value for key, value in {**batch, name: change(batch[name])}.items() if value is not None}
    for method in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError, match=message):
            method(wrong)


def test_where_another_class_is_the_blank_labels_of_zero_are_like_any_other(batch):
    batch["labels"][3] = 0
    make_model(blank_index=2).check_inputs({**batch, "labels": np.where(batch["labels"] == 2, 1, batch["labels"])})


def test_rows_that_cannot_be_aligned_may_be_given_a_worth(batch):
    model = make_model()
    model.compile("adam", loss=kseq.losses.CTC(infeasible="zero"))
    batch["lengths"][3] = 4
    model.check_inputs(batch)
    model.compile("adam")
    with pytest.raises(ValueError, match="Row 3: frames=2 after the front end"):
        model.check_inputs(batch)


def test_decoding_refuses_what_does_not_fit(batch):
    model = make_model()
    with pytest.raises(ValueError, match=r"features must be \(batch, time, 6\).* \(4, 13, 5\)"):
        model.decode(batch["features"][:, :, :5], batch["lengths"])
    with pytest.raises(ValueError, match=r"lengths\[0\] = 14"):
        model.decode(batch["features"], batch["lengths"] + 1)
    with pytest.raises(ValueError, match="The strategy's blank is class 1, but the model's is 0"):
        model.decode(batch["features"], batch["lengths"], strategy=kseq.decoding.CTCBeamSearch(blank_index=1))


def test_options_out_of_range_are_refused():
    layer = kseq.layers.RNN(kseq.cells.GRUCell(3), return_sequences=True)
    for options in ((0, 5), (6, 1)):
        with pytest.raises(ValueError, match="at least 2 classes"):
            kseq.models.CTCRecognizer(*options, layer)
    with pytest.raises(ValueError, match="blank_index=5"):
        kseq.models.CTCRecognizer(6, 5, layer, blank_index=5)
    with pytest.raises(ValueError, match="The encoder is an empty list"):
        kseq.models.CTCRecognizer(6, 5, [])
    with pytest.raises(ValueError, match=r"Layer 1 of the encoder, .*, has return_sequences=False"):
        kseq.models.CTCRecognizer(6, 5, [layer, kseq.layers.GRU(3)])
    with pytest.raises(ValueError, match=r"has return_state=True"):
        kseq.models.CTCRecognizer(6, 5, kseq.layers.GRU(3, return_sequences=True, return_state=True))
    with pytest.raises(ValueError, match="The list of front ends is empty"):
        kseq.models.CTCRecognizer(6, 5, layer, front_end=[])


def test_a_graph_for_signals_of_both_shapes_refuses_several_channels():
    import tensorflow as tf

    values = np.arange(12, dtype="float32").reshape(2, 6)

    @tf.function(input_signature=[tf.TensorSpec(None)])  # as after batches of both shapes
    def read(features):
        return as_frames(features, tf.constant([6, 6]), 1)

    np.testing.assert_array_equal(read(values), values[..., None])
    np.testing.assert_array_equal(read(values[..., None]), values[..., None])
    with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"):
        read(values.reshape(2, 3, 2))
