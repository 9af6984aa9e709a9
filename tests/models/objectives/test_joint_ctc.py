"""Seq2Seq with a CTC loss on its encoder, and its joint decoding."""

import itertools

import keras
import numpy as np
import pytest

import kseq
from kseq.training import JointCTC
from tests.reference.ctc_decoding import log_softmax, string_log_probability
from tests.support import BACKEND

IDS = 7  # 0: padding and blank, 2 and 3: begin and end


def make_model(ctc=None, seed=1, **options):
    cell = kseq.cells.SimpleRNNCell(5)
    decoder = kseq.models.Decoder(IDS, 4, cell)
    model = kseq.models.Seq2Seq(kseq.models.Encoder(IDS, 4, cell, bidirectional=False), decoder, ctc=ctc, **options)
    model.build()
    random = np.random.default_rng(seed)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    model.compile("sgd", run_eagerly=True)
    return model


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    return {
        "source": random.integers(0, IDS, size=(4, 6)).astype("int32"),
        "source_lengths": np.array([6, 4, 3, 2], "int32"),
        "target": np.array([[2, 4, 4, 5, 3], [2, 6, 3, 0, 0], [2, 5, 4, 3, 0], [2, 3, 0, 0, 0]], "int32"),
        "target_lengths": np.array([5, 3, 4, 2], "int32"),
    }


def ctc_log_probabilities(model, batch):
    """Return the log-probability of each row's target by CTC, in float64 and frame by frame."""
    encoded = model.encoder(batch["source"], batch["source_lengths"])
    logits = np.asarray(model.to_ctc_logits(encoded.values)).astype("float64")
    logits[..., [2, 3]] = -1e30
    values = []
    for row, (frames, tokens) in enumerate(zip(batch["source_lengths"], batch["target_lengths"], strict=True)):
        string = tuple(batch["target"][row, 1 : tokens - 1])
        values.append(string_log_probability(log_softmax(logits[row, :frames]), string, 0))
    return np.array(values)


@pytest.mark.long
@pytest.mark.parametrize("weights", [None, np.array([1.0, 0.0, 2.0, 1.0], "float32")])
def test_the_loss_is_that_of_the_paper(weights, batch):
    model, plain = make_model(JointCTC(0.3)), make_model()
    for of, to in ((model.encoder, plain.encoder), (model.decoder, plain.decoder)):
        to.set_weights(of.get_weights())
    compiled = float(plain.compute_loss(batch, None, plain(batch), weights))
    expected = 0.7 * compiled + 0.3 * np.average(-ctc_log_probabilities(model, batch), weights=weights)
    np.testing.assert_allclose(model.compute_loss(batch, None, model(batch), weights), expected, rtol=1e-5)
    model.train_on_batch(batch)


@pytest.mark.long
def test_joint_decoding_finds_the_best_of_all_texts(batch):
    """Against every text of up to 3 tokens, by the decoder's and CTC's own log-probabilities of whole texts."""
    model = make_model(JointCTC(0.5, decoding_weight=0.4))
    alone = make_model(JointCTC(0.5, decoding_weight=0.0))
    alone.set_weights(model.get_weights())
    inputs = batch["source"][:2], batch["source_lengths"][:2]
    texts = [text for size in range(4) for text in itertools.product((1, 4, 5, 6), repeat=size)]
    tokens = np.zeros((2, len(texts), 4), "int32")
    for place, text in enumerate(texts):
        tokens[:, place, : len(text) + 1] = [*text, 3]
    lengths = np.tile([len(text) + 1 for text in texts], (2, 1))
    by_decoder = np.asarray(kseq.sequence_log_probability(alone, inputs, (tokens, lengths)))
    by_ctc = np.zeros_like(by_decoder)
    for place, text in enumerate(texts):
        given = {"target": np.array([[2, *text, 3]] * 2), "target_lengths": np.full(2, len(text) + 2)}
        given |= {"source": inputs[0], "source_lengths": inputs[1]}
        by_ctc[:, place] = ctc_log_probabilities(model, given)
    expected = 0.6 * by_decoder + 0.4 * by_ctc
    got = np.asarray(kseq.sequence_log_probability(model, inputs, (tokens, lengths)))
    possible = by_ctc > -1e9
    np.testing.assert_allclose(got[possible], expected[possible], rtol=1e-4, atol=1e-4)
    assert (got[~possible] < -1e20).all()
    only = kseq.decoding.constraints.AllowedOutputs([list(text) for text in texts])
    search = kseq.decoding.BeamSearch(beam_width=64, constraints=(only,))
    decoded = model.decode(*inputs, strategy=search, max_length=5)
    for row in range(2):
        best = np.argmax(np.where(possible[row], expected[row], -np.inf))
        assert tuple(np.asarray(decoded.tokens)[row, 0, : lengths[0, best]]) == (*texts[best], 3)
        np.testing.assert_allclose(decoded.scores[row, 0], expected[row, best], rtol=1e-4)
    assert np.abs(expected - by_decoder)[possible].max() > 1


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.long_on_jax
def test_fit_and_decoding_compiled(batch):
    model = make_model(JointCTC(0.3))
    model.compile(keras.optimizers.Adam(0.05), jit_compile=BACKEND == "jax", run_eagerly=BACKEND != "jax")
    history = model.fit(batch, batch_size=4, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    decoded = model.decode(batch["source"], batch["source_lengths"], strategy="beam", max_length=5)
    assert np.isfinite(np.asarray(decoded.scores)).all()


@pytest.mark.long
@pytest.mark.parametrize(
    "strategy",
    [
        "contrastive",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("greedy", "sampling", "stochastic_beam")),
    ],
)
def test_every_strategy_decodes_jointly(strategy, batch):
    """A row alone has the answer that it has in the batch, without a longer padding."""
    model = make_model(JointCTC(0.5), seed=4)
    seed = {"seed": np.arange(4)} if strategy in ("sampling", "stochastic_beam") else {}
    decoded = model.decode(batch["source"], batch["source_lengths"], strategy=strategy, max_length=5, **seed)
    for row in (3,):
        source = batch["source"][row : row + 1, : batch["source_lengths"][row]]
        one = {name: value[row : row + 1] for name, value in seed.items()}
        alone = model.decode(source, batch["source_lengths"][row : row + 1], strategy=strategy, max_length=5, **one)
        np.testing.assert_array_equal(alone.tokens[0], decoded.tokens[row])
        np.testing.assert_allclose(alone.scores[0], decoded.scores[row], rtol=1e-4)
    assert (np.asarray(decoded.lengths)[:, 0] <= batch["source_lengths"] + 1).all()  # more has no alignment


@pytest.mark.long
def test_wrong_targets_are_refused(batch):
    model = make_model(JointCTC())
    target = batch["target"].copy()
    target[0, 2] = 3
    with pytest.raises(ValueError, match=r"target\[0, 2\] = 3 is the begin, end or padding token inside"):
        model.fit({**batch, "target": target})
    with pytest.raises(ValueError, match=r"Row 0: 3 outputs, 3 tokens between begin and end, 1 repeats; 1 such"):
        model.fit({**batch, "source_lengths": np.array([3, 4, 3, 2])})
    with pytest.raises(ValueError, match=r"sample_weight has shape \(4, 4\), a weight for each token, but JointCTC"):
        model.fit(batch, sample_weight=np.ones((4, 4), "float32"))
    few = {**batch, "source_lengths": np.array([3, 4, 3, 2])}
    assert np.isinf(model.compute_loss(few, None, model(few)))
    zero = make_model(JointCTC(infeasible="zero"))
    zero.check_targets(few)
    assert np.isfinite(zero.compute_loss(few, None, zero(few)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: JointCTC(1.2), r"weight=1.2, but it is a share"),
        (lambda: JointCTC(decoding_weight=-0.1), r"decoding_weight=-0.1, but it is a share"),
        (lambda: JointCTC(infeasible="no"), r"infeasible='no', expected one of"),
        (lambda: make_model(JointCTC(), pad_id=2), r"pad_id=2, but it must be an id of the target's vocabulary"),
        (lambda: make_model(JointCTC(0.6), distillation=kseq.training.Distillation(0.5)), r"sum to more than 1"),
    ],
)
def test_wrong_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
