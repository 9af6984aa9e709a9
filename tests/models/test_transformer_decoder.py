"""The Transformer's encoder and decoder in models: steps, caches, and every strategy of decoding."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.decoding import (
    BeamSearch,
    ContrastiveSearch,
    DiverseBeamSearch,
    Sampling,
    StepOutput,
)
from kseq.training import ScheduledSampling
from tests.models.conftest import SOURCES, TARGETS
from tests.support import compiled, traced

LENGTH = 6  # of the targets' tokens after the first
POSITIONS = ["sinusoidal", "learned", "rotary", "relative", None]


def make_model(positions="sinusoidal", units=8, max_length=LENGTH, num_layers=1, **options):
    keras.utils.set_random_seed(1)
    common = {"num_layers": num_layers, "num_heads": 2, "intermediate_dim": 7, "positions": positions}
    encoder = kseq.models.TransformerEncoder(SOURCES, units, max_length=9 if positions == "learned" else None, **common)
    decoder = kseq.models.TransformerDecoder(TARGETS, units, max_length=max_length, **common, **options)
    model = kseq.models.Seq2Seq(encoder, decoder)
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([w + 0.3 * random.normal(size=w.shape) for w in model.get_weights()])
    return model


MODEL = make_model("learned", num_kv_heads=1)


@pytest.mark.long
@pytest.mark.parametrize("positions", POSITIONS)
def test_training_pass_equals_decoding_steps(positions, batch):
    model = make_model(
        positions,
        max_length=9,
        num_layers=1 + (positions == "learned"),
        norm_first=positions != "rotary",
        tie_embeddings=positions is None,
    )
    logits = np.asarray(model(batch))
    state, memory = model.encode(batch["source"], batch["source_lengths"])
    for time in range(LENGTH):
        step = model.step(ops.convert_to_tensor(batch["target"][:, time]), state, memory)
        state = step.state
        np.testing.assert_allclose(step.logits, logits[:, time], atol=1e-4)
        np.testing.assert_allclose(np.sum(step.alignments, axis=1), batch["source_lengths"] > 0, atol=1e-5)


class Recomputed:
    """The model's decoder without a cache: its state holds the tokens, all of which each step reads again."""

    def __init__(self, model, encoded):
        self.model, self.encoded = model, encoded

    def state(self):
        batch = self.encoded.values.shape[0]
        row, zeros = np.arange(batch, dtype="int32"), np.zeros(batch, "int32")
        return {"tokens": np.zeros((batch, LENGTH + 1), "int32"), "position": zeros, "row": row}

    def step(self, tokens, state):
        position = ops.max(state["position"])
        here = ops.arange(LENGTH + 1, dtype="int32") == position
        written = ops.where(here, tokens[:, None], state["tokens"])
        encoded = type(self.encoded)(*(ops.take(x, state["row"], axis=0) for x in self.encoded[:2]), ())
        logits = ops.take(self.model.decoder(written, encoded), position, axis=1)
        return StepOutput(logits, {**state, "tokens": written, "position": state["position"] + 1}, None, logits)


STRATEGIES = [
    BeamSearch(beam_width=3, top_paths=3, early_stopping="never"),
    DiverseBeamSearch(beam_width=4, num_groups=2, top_paths=2, early_stopping="never"),
    Sampling(num_samples=2),
]


@pytest.mark.long
@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda x: type(x).__name__)
def test_every_strategy_writes_the_same_as_without_a_cache(strategy, batch):
    source, lengths = batch["source"][:3], batch["source_lengths"][:3]
    plain = Recomputed(MODEL, MODEL.encoder(source, lengths))
    ids = {"bos_id": 2, "eos_id": 3, "max_length": LENGTH, "seed": 3}
    expected = traced(lambda state: strategy(plain.step, state, **ids))(plain.state())
    got = traced(lambda: MODEL.decode(source, lengths, strategy=strategy, max_length=LENGTH, seed=3))()
    np.testing.assert_array_equal(got.tokens, expected.tokens)
    np.testing.assert_allclose(got.scores, expected.scores, atol=1e-4)
    assert len(np.unique(np.asarray(got.tokens).reshape(-1, LENGTH), axis=0)) > 1


@pytest.mark.long
@pytest.mark.every_backend
@pytest.mark.long_on_jax
def test_beam_search_compiled_scores_as_the_model_does(batch):
    inputs = batch["source"], batch["source_lengths"]
    run = compiled(lambda *x: MODEL.decode(*x, strategy=BeamSearch(beam_width=3, top_paths=2), max_length=LENGTH))
    decoded = run(*inputs)
    scores = kseq.sequence_log_probability(MODEL, inputs, (decoded.tokens, decoded.lengths))
    np.testing.assert_allclose(decoded.scores, scores, atol=1e-4)
    assert decoded.alignments.shape == (5, 2, LENGTH, 9)
    assert not np.asarray(decoded.alignments)[1, :, :, 4:].any()


@pytest.mark.long
def test_contrastive_search_reads_the_last_token_too(batch):
    call = {"strategy": ContrastiveSearch(top_k=3), "max_length": LENGTH}
    decoded = MODEL.decode(batch["source"], batch["source_lengths"], **call)
    assert np.isfinite(decoded.scores).all()


@pytest.mark.long
def test_more_tokens_than_the_cache_holds_are_refused_and_in_a_graph_nan(batch):
    inputs = batch["source"], batch["source_lengths"]
    with pytest.raises(ValueError, match=r"max_length=7 tokens shall be written, but .* at most max_length=6\."):
        MODEL.decode(*inputs, strategy="greedy", max_length=7)
    with pytest.raises(ValueError, match="max_length=8 tokens"):
        kseq.sequence_log_probability(MODEL, inputs, (np.ones((5, 8), "int32"), np.full(5, 8)))
    state, memory = MODEL.encode(*inputs)
    state = state._replace(position=np.full(5, LENGTH + 1, "int32"))
    tokens = np.full(5, 4, "int32")
    with pytest.raises(ValueError, match="room for 7 positions, and all of them are written"):
        make_model(num_kv_heads=1).step(tokens, state, memory)
    assert np.isnan(traced(lambda state: MODEL.step(tokens, state, memory).logits)(state)).all()
    assert MODEL.with_room(MODEL.encode(*inputs)[0], 2).places.shape == (5, 3)


@pytest.mark.long
def test_decodes_in_an_ensemble_with_a_recurrent_model(batch):
    recurrent = kseq.models.Seq2Seq(
        kseq.models.Encoder(SOURCES, 8, kseq.cells.GRUCell(5)), kseq.models.Decoder(TARGETS, 7, kseq.cells.GRUCell(5))
    )
    recurrent.build()
    inputs = batch["source"], batch["source_lengths"]
    both = kseq.models.Ensemble([MODEL, recurrent])
    decoded = both.decode(*inputs, strategy=BeamSearch(beam_width=3), max_length=LENGTH)
    scores = kseq.sequence_log_probability(both, inputs, (decoded.tokens, decoded.lengths))
    np.testing.assert_allclose(decoded.scores, scores, atol=1e-4)


@pytest.mark.long
def test_joint_decoding_with_ctc_has_room_for_the_text_alone(batch):
    model = kseq.models.Seq2Seq(MODEL.encoder, MODEL.decoder, ctc=kseq.training.JointCTC(0.3))
    model.build()
    state, _ = model.encode(batch["source"], batch["source_lengths"])
    assert model.with_room(state, 3)[0].places.shape == (5, 4)
    decoded = model.decode(batch["source"], batch["source_lengths"], strategy=BeamSearch(beam_width=2), max_length=3)
    assert decoded.tokens.shape == (5, 1, 3)


def test_a_model_that_is_not_built_decodes(batch):
    options = {"num_heads": 2, "num_layers": 1}
    model = kseq.models.Seq2Seq(
        kseq.models.TransformerEncoder(SOURCES, 8, **options), kseq.models.TransformerDecoder(TARGETS, 8, **options)
    )
    decoded = model.decode(batch["source"], batch["source_lengths"], strategy="greedy", max_length=3)
    assert np.isfinite(decoded.scores).all()


def test_a_recurrent_decoder_reads_a_transformers_encoder(batch):
    decoder = kseq.models.Decoder(TARGETS, 7, kseq.cells.GRUCell(5), context="initial", bridge="copy")
    model = kseq.models.Seq2Seq(kseq.models.TransformerEncoder(SOURCES, 5, num_heads=1, num_layers=1), decoder)
    assert np.isfinite(model(batch)).all()


@pytest.mark.long
def test_trains_with_samples_and_a_guided_alignment(batch):
    for samples in ("hard", "soft"):
        model = make_model()
        model = kseq.models.Seq2Seq(
            model.encoder,
            model.decoder,
            sampling=ScheduledSampling(probability=0.5, samples=samples),
            guided_alignment=kseq.training.GuidedAlignment("diagonal"),
        )
        model.compile("adam", run_eagerly=True)
        assert np.isfinite(model.train_on_batch(batch)).all()


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"num_heads=4 heads, but their last axis has the size 6"):
        kseq.models.TransformerEncoder(9, 6).build()
    with pytest.raises(ValueError, match="max_length=5 applies to positions='learned'"):
        kseq.models.TransformerEncoder(9, 8, max_length=5)
    with pytest.raises(ValueError, match="max_length=None"):
        kseq.models.TransformerEncoder(9, 8, positions="learned")
    with pytest.raises(ValueError, match="positions='absolute'"):
        kseq.models.TransformerDecoder(9, 8, positions="absolute")
    encoder = kseq.models.TransformerEncoder(9, 8, positions="learned", max_length=2)
    with pytest.raises(ValueError, match="max_length=2 positions, but the steps go from position 0 to 2"):
        encoder(np.ones((1, 3), "int32"), np.array([3]))
