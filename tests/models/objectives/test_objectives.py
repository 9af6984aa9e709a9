"""Losses of Seq2Seq besides the compiled one: distillation and guided alignment."""

import keras
import numpy as np
import pytest

import kseq
from kseq.training import Distillation, GuidedAlignment
from tests.models.conftest import SOURCES, TARGETS
from tests.reference import objectives as reference
from tests.support import BACKEND

OPTIONS = {
    "distillation": Distillation(0.3, 2.0),
    "cross_entropy": GuidedAlignment("cross_entropy", 0.4),
    "mean_squared": GuidedAlignment("mean_squared", 0.4),
    "diagonal": GuidedAlignment("diagonal", 0.4, width=0.3),
}


def make_model(name="", regularizer=None, **decoder):
    keras.utils.set_random_seed(3)
    option = {"distillation" if name == "distillation" else "guided_alignment": OPTIONS[name]} if name else {}
    cell = kseq.cells.SimpleRNNCell(5, kernel_regularizer=regularizer)
    encoder = kseq.models.Encoder(SOURCES, 4, cell, bidirectional=False)
    model = kseq.models.Seq2Seq(encoder, kseq.models.Decoder(TARGETS, 4, cell, **decoder), **option)
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([0.7 * random.normal(size=weight.shape) for weight in model.get_weights()])
    model.compile("sgd", run_eagerly=True)
    return model


@pytest.fixture
def batch(batch):
    random = np.random.default_rng(5)
    return {
        **batch,
        "teacher_logits": random.normal(size=(5, 6, TARGETS)).astype("float32"),
        "alignments": random.integers(0, 3, size=(5, 6, 9)).astype("float32"),
    }


def only(batch, name):
    """Return the inputs that a model with this option reads."""
    read = {"distillation": {"teacher_logits"}, "cross_entropy": {"alignments"}, "mean_squared": {"alignments"}}
    unread = {"teacher_logits", "alignments"} - read.get(name, set())
    return {key: value for key, value in batch.items() if key not in unread}


def expected_loss(name, batch, weights=None):
    """Return the loss of the option, token by token by its twin, and the compiled loss."""
    model = make_model()
    encoded = model.encoder(batch["source"], batch["source_lengths"])
    logits, attention = model.decoder(batch["target"][:, :-1], encoded, return_weights=True)
    logits, attention = np.asarray(logits), np.asarray(attention)
    total = count = 0.0
    for row, length in enumerate(batch["target_lengths"]):
        for step in range(length - 1):
            weight = 1.0 if weights is None else weights[row]
            alignment = batch["alignments"][row, step]
            if name == "distillation":
                loss = reference.soft_target_loss(batch["teacher_logits"][row, step], logits[row, step], 2.0)
            elif name == "diagonal":
                args = attention[row, step], step, length - 1, batch["source_lengths"][row], 0.3
                loss = reference.diagonal_attention_loss(*args)
            elif alignment.any():
                loss = reference.guided_alignment_loss(attention[row, step], alignment, name)
            else:
                continue
            total, count = total + weight * loss, count + weight
    return total / count, float(model.compute_loss(only(batch, ""), None, model(batch), weights))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("weights", [None, np.array([1.0, 0.0, 2.0, 1.0, 0.5], "float32")])
def test_the_loss_is_that_of_the_papers(name, weights, batch):
    model = make_model(name)
    extra, compiled = expected_loss(name, batch, weights)
    inputs = only(batch, name)
    replaced = 0.3 if name == "distillation" else 0.0
    weight = 0.3 if name == "distillation" else 0.4
    got = model.compute_loss(inputs, None, model(inputs), weights)
    np.testing.assert_allclose(got, (1 - replaced) * compiled + weight * extra, rtol=1e-4)
    logits = model(inputs, training=False)
    np.testing.assert_allclose(model.compute_loss(inputs, None, logits, weights, training=False), compiled, rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("name", ["distillation", "cross_entropy", "diagonal"])
def test_padding_and_wrong_rows_hurt_nobody(name, batch):
    import tensorflow as tf

    model, inputs = make_model(name), only(batch, name)

    @tf.function(autograph=False, reduce_retracing=True)
    def run(inputs):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs, None, model(inputs, training=True))
        return loss, [tf.convert_to_tensor(each) for each in tape.gradient(loss, model.trainable_variables)]

    def result(inputs):
        loss, gradients = run({key: tf.constant(value) for key, value in inputs.items()})
        return float(loss), np.concatenate([np.ravel(each) for each in gradients])

    loss, gradients = result(inputs)
    real = np.arange(6) < batch["target_lengths"][:, None] - 1
    padded = {
        key: np.where(real[..., None], value, np.nan).astype("float32") if value.ndim == 3 else value
        for key, value in inputs.items()
    }
    other, of_other = result(padded)
    np.testing.assert_allclose(other, loss, rtol=1e-6)
    np.testing.assert_allclose(of_other, gradients, atol=1e-6)
    wrong = {**inputs, "source": inputs["source"].copy()}
    wrong["source"][1, 0] = 99
    lost, of_wrong = result(wrong)
    assert np.isnan(lost)
    assert np.isfinite(of_wrong).all()
    if name != "diagonal":
        key = "teacher_logits" if name == "distillation" else "alignments"
        wrong = {**inputs, key: np.where(np.arange(5)[:, None, None] == 1, np.nan, inputs[key]).astype("float32")}
        lost, of_wrong = result(wrong)
        assert np.isnan(lost)
        assert np.isfinite(of_wrong).all()


@pytest.mark.long
def test_a_wrong_row_moves_no_weight(batch):
    """With the whole weight on the teacher, the gradient is that of the other rows alone."""
    import tensorflow as tf

    model = make_model("distillation")
    model.distillation = Distillation(1.0)

    @tf.function(autograph=False)
    def gradients(inputs, weights):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(inputs, None, model(inputs, training=True), weights)
        return [tf.convert_to_tensor(each) for each in tape.gradient(loss, model.trainable_variables)]

    inputs = {key: tf.constant(value) for key, value in only(batch, "distillation").items()}
    wrong = {**inputs, "source": tf.tensor_scatter_nd_update(inputs["source"], [[1, 0]], [99])}
    expected = gradients(inputs, tf.constant([1.0, 0.0, 1.0, 1.0, 1.0]))
    for got, other in zip(gradients(wrong, tf.ones(5)), expected, strict=True):
        np.testing.assert_allclose(got, other, atol=1e-6)


@pytest.mark.long
@pytest.mark.long_on_jax
@pytest.mark.parametrize("name", ["distillation", pytest.param("cross_entropy", marks=pytest.mark.slow)])
def test_fit_by_a_teacher_and_by_alignments_in_compiled_steps(name, batch, tmp_path):
    model, inputs = make_model(name, input_feeding=name == "cross_entropy"), only(batch, name)
    model.compile(keras.optimizers.Adam(0.02), jit_compile=BACKEND == "jax", run_eagerly=BACKEND != "jax")
    history = model.fit(inputs, batch_size=5, epochs=2, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    if BACKEND == "tensorflow":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert (loaded.distillation, loaded.guided_alignment) == (model.distillation, model.guided_alignment)
        np.testing.assert_allclose(loaded.train_on_batch(inputs), model.train_on_batch(inputs), rtol=1e-5)


@pytest.mark.long
def test_probabilities_and_lists_do_as_logits_and_arrays(batch):
    model, inputs = make_model("distillation"), only(batch, "distillation")
    logits = inputs.pop("teacher_logits")
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    rows = {
        "source": [list(row[:n]) for row, n in zip(batch["source"], batch["source_lengths"], strict=True)],
        "target": [list(row[:n]) for row, n in zip(batch["target"], batch["target_lengths"], strict=True)],
        "teacher_probabilities": [p[: n - 1] for p, n in zip(probabilities, batch["target_lengths"], strict=True)],
    }
    start, losses = model.get_weights(), []
    for given in ({**inputs, "teacher_logits": logits}, {**inputs, "teacher_probabilities": probabilities}, rows):
        model.set_weights(start)
        losses.append(model.fit(given, batch_size=5, verbose=0).history["loss"][0])
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    rows["teacher_probabilities"][1] = rows["teacher_probabilities"][1][:1]
    with pytest.raises(ValueError, match=r"teacher_probabilities\[1\] has 1 rows, but target\[1\] has 3 tokens"):
        model.fit(rows)


def test_penalties_of_regularizers_keep_their_weight(batch):
    inputs = only(batch, "distillation")
    plain, penalised = make_model("distillation"), make_model("distillation", keras.regularizers.L2(0.1))
    losses = [model.compute_loss(inputs, None, model(inputs)) for model in (plain, penalised)]
    np.testing.assert_allclose(losses[1] - losses[0], np.sum(penalised.losses), rtol=1e-4)


@pytest.mark.long
def test_wrong_arrays_are_refused(batch):
    def refused(name, message, **changed):
        inputs = {**only(batch, name), **changed}
        with pytest.raises(ValueError, match=message):
            make_model(name).fit({key: value for key, value in inputs.items() if value is not None})

    logits, alignments = batch["teacher_logits"], batch["alignments"]
    refused("distillation", r"lack 'teacher_logits', which training with a Distillation", teacher_logits=None)
    refused(
        "distillation", r"has shape \(5, 7, 20\), but expected .* = \(5, 6, 20\)", teacher_logits=logits[:, [0] * 7]
    )
    refused("distillation", r"teacher_logits has dtype int64, but expected floats", teacher_logits=logits.astype(int))
    refused("distillation", r"Give one of them", teacher_probabilities=logits)
    broken = logits.copy()
    broken[2, 3, 1] = np.nan
    refused("distillation", r"teacher_logits\[2, 3\] has NaN or infinity", teacher_logits=broken)
    refused("distillation", r"teacher_probabilities\[0, 0\] has no probabilities", teacher_logits=None,
            teacher_probabilities=np.abs(logits))  # fmt: skip
    refused("cross_entropy", r"lack 'alignments', which training with GuidedAlignment", alignments=None)
    refused("cross_entropy", r"alignments have shape \(5, 5, 9\)", alignments=alignments[:, :5])
    refused("cross_entropy", r"alignments\[0, 0\] = \[-1.0, ", alignments=alignments - 1 - alignments)
    refused("", r"have 'alignments', which only a model made with guided_alignment=... reads", alignments=alignments)
    refused("diagonal", r"have 'teacher_logits', which only a model made with distillation=...", teacher_logits=logits)
    refused("cross_entropy", r"expected .* = \(5, 6, 9\)", alignments=alignments[..., :8])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Distillation(1.5), r"weight=1.5, but it is a share"),
        (lambda: Distillation(temperature=0), r"temperature=0.0, but it must be above 0"),
        (lambda: GuidedAlignment("linear"), r"kind='linear', but it must be one of"),
        (lambda: GuidedAlignment(weight=-1), r"weight=-1.0, but the weight of a loss"),
        (lambda: GuidedAlignment(width=0.1), r"width=0.1 was given, which kind='cross_entropy' does not have"),
        (lambda: GuidedAlignment("diagonal", width=0.0), r"width=0.0, but it must be above 0"),
        (lambda: make_model("diagonal", context="initial"), r"needs a decoder with attention"),
    ],
)
def test_wrong_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_options_of_another_kind_are_refused():
    encoder = kseq.models.Encoder(SOURCES, 4, kseq.cells.SimpleRNNCell(5))
    decoder = kseq.models.Decoder(TARGETS, 4, kseq.cells.SimpleRNNCell(5))
    with pytest.raises(ValueError, match=r"guided_alignment=0.5, but it must be a kseq.training.GuidedAlignment"):
        kseq.models.Seq2Seq(encoder, decoder, guided_alignment=0.5)


def test_logits_of_another_call_are_refused(batch):
    model, inputs = make_model("cross_entropy"), only(batch, "cross_entropy")
    with pytest.raises(ValueError, match="logits that the model did not return"):
        model.compute_loss(inputs, None, model(inputs) + 0.0)


@pytest.mark.long
def test_a_pointer_decoder_goes_with_what_needs_no_embedding_of_its_tokens(batch):
    """A teacher's numbers then include the copied positions; CTC and soft samples are refused."""

    def make(**options):
        keras.utils.set_random_seed(3)
        encoder = kseq.models.Encoder(SOURCES, 4, kseq.cells.SimpleRNNCell(5))
        decoder = kseq.models.PointerDecoder(
            TARGETS, 4, kseq.cells.SimpleRNNCell(5), copies=[-1] * SOURCES, copied_positions=3
        )
        return kseq.models.Seq2Seq(encoder, decoder, **options)

    teacher = np.random.default_rng(2).normal(size=(5, 6, TARGETS + 3)).astype("float32")
    model = make(
        sampling=kseq.training.ScheduledSampling(),
        distillation=Distillation(0.2),
        guided_alignment=GuidedAlignment(),
        minimum_risk=kseq.training.MinimumRisk(0.3, num_candidates=2, max_length=3),
    )
    model.compile("sgd", run_eagerly=True)
    assert np.isfinite(model.train_on_batch({**batch, "teacher_logits": teacher})).all()
    with pytest.raises(ValueError, match=r"writes the 20 tokens of its vocabulary alone, but PointerDecoder"):
        make(ctc=kseq.training.JointCTC())
    with pytest.raises(ValueError, match=r"copied tokens have none. Use samples='hard'"):
        make(sampling=kseq.training.ScheduledSampling(samples="soft"))


@pytest.mark.long
@pytest.mark.parametrize("samples", ["soft", "hard"])
def test_a_transformer_decoder_goes_with_all_of_them(samples, batch):
    """Without dropout and with all tokens true, samples change no loss; with drawn ones, they do."""
    losses = []
    for probability in (None, 0.0, 1.0):
        encoder = kseq.models.Encoder(SOURCES, 4, kseq.cells.SimpleRNNCell(5))
        decoder = kseq.models.TransformerDecoder(TARGETS, 8, num_layers=1, num_heads=2, max_length=16)
        sampling = None
        if probability is not None:
            sampling = kseq.training.ScheduledSampling(probability=probability, samples=samples)
        model = kseq.models.Seq2Seq(
            encoder,
            decoder,
            sampling=sampling,
            guided_alignment=GuidedAlignment(),
            ctc=kseq.training.JointCTC(0.2, infeasible="zero"),
            minimum_risk=kseq.training.MinimumRisk(0.3, num_candidates=2, max_length=3),
        )
        model.build()
        random = np.random.default_rng(1)
        for weight in model.trainable_variables:
            weight.assign(0.5 * random.normal(size=weight.shape))
        model.compile("sgd", run_eagerly=True)
        losses.append(float(model.train_on_batch({**only(batch, "cross_entropy")})[0]))
    assert losses[0] == losses[1]
    assert abs(losses[2] - losses[0]) > 1e-4
