"""The sequence-to-sequence model with every kind of decoder: training, and decoding steps."""

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from kseq.masking import implicit_mask
from tests.models.conftest import KINDS, SOURCES, TARGETS, make_model
from tests.support import BACKEND, assert_all_close, compiled

kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.mostly_long("GRUCell-attention", "GRUCell-every step")
@kinds
@pytest.mark.parametrize(
    "cell",
    [kseq.cells.SimpleRNNCell, kseq.cells.GRUCell, pytest.param(kseq.cells.LSTMCell, marks=pytest.mark.long_on_jax)],
)
def test_training_pass_equals_decoding_steps(kind, cell, batch):
    """The logits of teacher forcing equal those of `step`, token by token."""
    model = make_model(kind, cell)
    logits = np.asarray(model(batch))
    state, memory = model.encode(batch["source"], batch["source_lengths"])
    for time in range(6):
        step = model.step(ops.convert_to_tensor(batch["target"][:, time]), state, memory)
        state = step.state
        np.testing.assert_allclose(step.logits, logits[:, time], atol=1e-5)
        assert (step.alignments is None) == (kind in ("every step", "initial"))


@kinds
def test_hypotheses_share_their_memory(kind, batch):
    """With batch x hypotheses rows and one memory row per source, each hypothesis has the logits that it has alone."""
    model = make_model(kind)
    state, memory = model.encode(batch["source"], batch["source_lengths"])
    tokens = ops.convert_to_tensor(np.arange(15, dtype="int32") % TARGETS)
    rows = keras.tree.map_structure(lambda x: ops.repeat(x, 3, axis=0), state)
    together, *_ = model.step(tokens, rows, memory)
    for hypothesis in range(3):
        alone, *_ = model.step(tokens[hypothesis::3], state, memory)
        np.testing.assert_allclose(np.asarray(together)[hypothesis::3], alone, atol=1e-5)


@pytest.mark.long
@kinds
def test_padding_never_changes_an_answer(kind, batch):
    model = make_model(kind)
    logits = np.asarray(model(batch))
    other = {**batch, "source": batch["source"].copy(), "target": batch["target"].copy()}
    for row in range(5):
        other["source"][row, batch["source_lengths"][row] :] = (other["source"][row, 0] + 1) % SOURCES
        other["target"][row, batch["target_lengths"][row] :] = 1
    real = np.asarray(implicit_mask(model(batch)))
    np.testing.assert_array_equal(real.sum(axis=1), batch["target_lengths"] - 1)
    np.testing.assert_array_equal(np.asarray(model(other))[real], logits[real])
    longer = {**other, "source": np.pad(other["source"], [(0, 0), (0, 5)], constant_values=3)}
    np.testing.assert_allclose(np.asarray(model(longer))[real], logits[real], atol=1e-6)


@pytest.mark.long
@kinds
def test_a_row_alone_equals_the_row_in_its_batch(kind, batch):
    model = make_model(kind)
    logits = np.asarray(model(batch))
    for row in range(5):
        alone = model({name: value[row : row + 1] for name, value in batch.items()})
        np.testing.assert_allclose(np.asarray(alone)[0], logits[row], atol=1e-5)


@pytest.mark.long
@pytest.mark.every_backend
def test_fit_learns_to_copy(capsys):
    """Compiled by XLA on JAX. Guessing has a token accuracy of 1/2: the end token, and a quarter of the others."""
    random = np.random.default_rng(1)
    tokens = random.integers(4, 8, size=(64, 2)).astype("int32")
    target = np.concatenate([np.full((64, 1), 2), tokens, np.full((64, 1), 3), np.zeros((64, 2))], axis=1).astype(
        "int32"
    )
    data = {
        "source": np.pad(tokens, [(0, 0), (0, 3)]),
        "source_lengths": np.full(64, 2),
        "target": target,
        "target_lengths": np.full(64, 4),
    }
    model = make_model(num_layers=1, dropout=0.05, units=24)
    model.compile(keras.optimizers.Adam(0.02), jit_compile=BACKEND == "jax")
    history = model.fit(data, batch_size=16, epochs=30, verbose=2).history
    assert capsys.readouterr().out.count("compiling shape 1 of 1: rows (16,)") == (BACKEND == "jax")
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    written = np.asarray(model(data)).argmax(axis=-1)[:, :3]
    assert np.mean(written == target[:, 1:4]) > 0.8


@pytest.mark.long
@kinds
def test_a_step_of_training_lowers_the_loss_and_reaches_every_weight(kind, batch):
    model = make_model(kind, num_layers=1)
    model.compile(keras.optimizers.SGD(0.01), run_eagerly=True)
    random = np.random.default_rng(4)  # with the small initial weights, attention is uniform
    before = [random.normal(size=w.shape) for w in model.get_weights()]
    model.set_weights(before)
    first = model.train_on_batch(batch)[0]
    assert model.evaluate(batch, batch_size=5, verbose=0)[0] < first
    still = [w.path for w, value in zip(model.weights, before, strict=True) if np.allclose(w, value, atol=1e-7)]
    assert not still, "weights that no gradient reaches"


def test_the_loss_divides_by_real_tokens(batch):
    model = make_model()
    model.compile("adam", run_eagerly=True)
    random = np.random.default_rng(3)  # with the small initial weights, all tokens have the same loss
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    loss, _ = model.evaluate(batch, batch_size=5, verbose=0)
    logits, labels = np.asarray(model(batch)), batch["target"][:, 1:]
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    real = np.arange(6)[None] < batch["target_lengths"][:, None] - 1
    picked = np.take_along_axis(log_probabilities, labels[:, :, None], axis=-1)[:, :, 0]
    np.testing.assert_allclose(loss, -picked[real].mean(), rtol=1e-5)
    assert abs(picked[real].mean() - picked.mean()) > 0.01  # the padding would change the mean


@pytest.mark.long
def test_float16(batch):
    """One training step, in which the loss is scaled, and a beam search."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = make_model("attention", kseq.cells.LSTMCell, num_layers=1)
        model.compile("adam", run_eagerly=True)
        assert np.isfinite(model.fit(batch, verbose=0).history["loss"][0])
        assert keras.backend.standardize_dtype(model(batch).dtype) == "float32"
        strategy = kseq.decoding.BeamSearch(beam_width=2)
        decoded = model.decode(batch["source"], batch["source_lengths"], strategy=strategy, max_length=4)
        assert np.isfinite(np.asarray(decoded.scores)).all()
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.long
@pytest.mark.parametrize("kind", ["every step", pytest.param("input feeding", marks=pytest.mark.every_backend)])
def test_decoding_compiled_equals_eager_and_scores_are_the_models_own(kind, batch):
    model, strategy = make_model(kind), kseq.decoding.BeamSearch(beam_width=3, top_paths=2)
    run = compiled(lambda s, n: model.decode(s, n, strategy=strategy, max_length=5))
    graph = eager = run(batch["source"], batch["source_lengths"])
    if BACKEND == "tensorflow":  # JAX compiles each operation of an eager call
        eager = model.decode(batch["source"], batch["source_lengths"], strategy=strategy, max_length=5)
    np.testing.assert_array_equal(graph.tokens, eager.tokens)
    np.testing.assert_allclose(graph.scores, eager.scores, atol=1e-5)
    best = np.asarray(eager.tokens)[:, 0]
    target = np.concatenate([np.full((5, 1), 2), best], axis=1).astype("int32")
    logits = np.asarray(model({**batch, "target": target, "target_lengths": np.full(5, 6)}))
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_probabilities, best[:, :, None], axis=-1)[:, :, 0]
    real = np.arange(5)[None] < np.asarray(eager.lengths)[:, :1]
    np.testing.assert_allclose((picked * real).sum(axis=1), np.asarray(eager.scores)[:, 0], atol=1e-4)


@pytest.mark.long
def test_decoding_takes_prompts_and_seeds(batch):
    model = make_model()
    source, lengths = batch["source"], batch["source_lengths"]
    strategy = kseq.decoding.Sampling(num_samples=2, temperature=3.0)
    call = {"prompt": np.array([[7, 8]] * 5), "prompt_lengths": np.array([0, 1, 2, 1, 0]), "seed": np.arange(5)}
    together = np.asarray(model.decode(source, lengths, strategy=strategy, max_length=5, **call).tokens)
    assert (together[1:4, :, 0] == 7).all()
    assert (together[2, :, 1] == 8).all()
    row = {name: value[2:3] for name, value in call.items()}
    alone = model.decode(source[2:3], lengths[2:3], strategy=strategy, max_length=5, **row).tokens
    np.testing.assert_array_equal(alone, together[2:3])


@pytest.mark.long
@pytest.mark.parametrize(("coverage", "given"), [(0.2, None), (0.2, "own"), (0.0, None)])
def test_a_coverage_penalty_counts_the_real_source(coverage, given, batch):
    seen = {}

    class Recorded(kseq.decoding.BeamSearch):
        def __call__(self, *arguments, **call):
            seen.update(call)
            return super().__call__(*arguments, **call)

    mask = np.ones(batch["source"].shape, "bool") if given else None
    model, call = make_model(), {"max_length": 3, "source_mask": mask}
    model.decode(batch["source"], batch["source_lengths"], strategy=Recorded(coverage_penalty=coverage), **call)
    if coverage:
        real = np.arange(batch["source"].shape[1]) < batch["source_lengths"][:, None]
        np.testing.assert_array_equal(seen["source_mask"], real if mask is None else mask)
    else:
        assert seen["source_mask"] is None


@pytest.mark.long
def test_its_step_shows_what_contrastive_search_compares(batch):
    model = make_model()
    inputs = (batch["source"], batch["source_lengths"])
    one = model.decode(*inputs, strategy=kseq.decoding.ContrastiveSearch(penalty_alpha=0.0), max_length=4)
    greedy = model.decode(*inputs, strategy=kseq.decoding.GreedySearch(), max_length=4)
    np.testing.assert_array_equal(one.tokens, greedy.tokens)


def test_alignments_are_weights_over_the_real_source(batch):
    model = make_model()
    decoded = model.decode(
        batch["source"], batch["source_lengths"], strategy=kseq.decoding.GreedySearch(), max_length=4
    )
    weights = np.asarray(decoded.alignments)[:, 0]
    padding = np.arange(9)[None] >= batch["source_lengths"][:, None]
    assert np.all(weights.transpose(0, 2, 1)[padding] == 0)
    steps = np.arange(4)[None] < np.asarray(decoded.lengths)
    expected = np.where(batch["source_lengths"][:, None] > 0, 1.0, 0.0) * steps
    np.testing.assert_allclose(weights.sum(axis=-1), expected, atol=1e-5)


@pytest.mark.mostly_long("attention")
@kinds
def test_an_empty_batch(kind, batch):
    empty = {name: value[:0] for name, value in batch.items()}
    model = make_model(kind)
    assert model(empty).shape == (0, 6, TARGETS)
    decoded = model.decode(empty["source"], empty["source_lengths"], strategy=kseq.decoding.BeamSearch(), max_length=5)
    assert decoded.tokens.shape == (0, 1, 5)


@pytest.mark.long
def test_a_coverage_penalty_goes_with_a_batch_of_empty_sources():
    """The encoder pads empty sources to one step, which the alignments contain but the source does not."""
    source, lengths = np.zeros((2, 0), "int32"), np.zeros(2, "int32")
    searches = [kseq.decoding.BeamSearch(coverage_penalty=coverage) for coverage in (0.0, 0.2)]
    model = make_model()
    plain, covered = (model.decode(source, lengths, strategy=x, max_length=4) for x in searches)
    np.testing.assert_array_equal(covered.tokens, plain.tokens)
    np.testing.assert_allclose(covered.scores, plain.scores, atol=1e-6)  # there is no source position


@pytest.mark.parametrize(("name", "value"), [("source", SOURCES), ("target", TARGETS), ("source", -1)])
@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_token_ids_outside_the_vocabulary_are_refused(name, value, method, batch):
    model = make_model()
    model.compile("adam")
    batch[name][1, 2] = value
    size = {"source": SOURCES, "target": TARGETS}[name]
    with pytest.raises(ValueError, match=rf"{name}\[1, 2\] = {value} is not a token id: .* ids 0 to {size - 1}"):
        getattr(model, method)(batch)


def test_arrays_that_do_not_fit_are_refused(batch):
    model = make_model()
    model.compile("adam")
    for method in (model.fit, model.evaluate, model.predict, model.train_on_batch):
        with pytest.raises(ValueError, match=r"The batch is empty: source has shape \(0, 9\)"):
            method({name: value[:0] for name, value in batch.items()})
    with pytest.raises(ValueError, match=r"The inputs must be a dict of .*'source_lengths'.* but they are"):
        model.fit({name: value for name, value in batch.items() if name != "source_lengths"})
    with pytest.raises(ValueError, match="but they are a tuple"):
        model.fit((batch["source"], batch["target"]))
    with pytest.raises(ValueError, match=r"source_lengths\[1\] = 10, but source has 9 columns"):
        model.fit({**batch, "source_lengths": np.array([9, 10, 1, 0, 7])})
    with pytest.raises(ValueError, match=r"their shapes are \(5,\) and \(5,\)"):
        model.fit({**batch, "target": batch["target"][:, 0]})


@pytest.mark.long
@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout"])
def test_input_feeding_drops_what_the_cell_drops_in_training_only(option, batch):
    model = make_model("input feeding", lambda units: kseq.cells.GRUCell(units, **{option: 0.5}))
    encoded = model.encoder(batch["source"], batch["source_lengths"])
    outputs = [np.asarray(model.decoder(batch["target"], encoded, training=x)) for x in (False, False, True, True)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.allclose(outputs[1], outputs[2])
    assert not np.allclose(outputs[2], outputs[3])


@pytest.mark.long
@pytest.mark.parametrize("heads", [pytest.param(0, marks=pytest.mark.long_on_jax), 1, 2])
def test_input_feeding_drops_attention_weights_in_training_only(batch, heads):
    attention = kseq.attention.AdditiveAttention(6, dropout=0.5, seed=1)
    if heads:
        attention = kseq.attention.MultiHeadAttention(heads, 3, dropout=0.5, seed=1)
    decoder = kseq.models.Decoder(TARGETS, 7, kseq.cells.GRUCell(6), attention=attention, input_feeding=True)
    model = kseq.models.Seq2Seq(kseq.models.Encoder(SOURCES, 8, kseq.cells.GRUCell(6)), decoder)
    outputs = [np.asarray(model(batch, training=training)) for training in (False, False, True, True)]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert not np.allclose(outputs[1], outputs[2])
    assert not np.allclose(outputs[2], outputs[3])


@pytest.mark.long
@pytest.mark.parametrize("input_feeding", [False, True])
def test_heads_of_attention_may_give_contexts_of_another_size(input_feeding, batch):
    attention = kseq.attention.MultiHeadAttention(2, 3, num_kv_heads=1, output_dim=5, dropout=0.1)
    decoder = kseq.models.Decoder(TARGETS, 7, kseq.cells.GRUCell(6), attention=attention, input_feeding=input_feeding)
    model = kseq.models.Seq2Seq(kseq.models.Encoder(SOURCES, 8, kseq.cells.GRUCell(4)), decoder)
    logits = np.asarray(model(batch))
    state, memory = model.encode(batch["source"], batch["source_lengths"])
    for time in range(2):
        step = model.step(ops.convert_to_tensor(batch["target"][:, time]), state, memory)
        state = step.state
        np.testing.assert_allclose(step.logits, logits[:, time], atol=1e-5)
    assert np.isfinite(model(batch, training=True)).all()


def test_parts_may_have_a_precision_of_their_own(batch):
    cell = kseq.cells.GRUCell(6)
    model = kseq.models.Seq2Seq(
        kseq.models.Encoder(SOURCES, 8, cell, dtype="mixed_bfloat16"), kseq.models.Decoder(TARGETS, 7, cell)
    )
    assert np.isfinite(np.asarray(model(batch))).all()


def test_options_that_do_not_go_together_are_refused():
    heads = kseq.attention.MultiHeadAttention(2, 3, head_weights=True)
    with pytest.raises(ValueError, match="reads one weight for each source step"):
        kseq.models.Decoder(20, 7, kseq.cells.GRUCell(6), attention=heads)
    with pytest.raises(ValueError, match="context='initial' excludes attention"):
        kseq.models.Decoder(5, 4, kseq.cells.GRUCell(3), context="initial", input_feeding=True)
    with pytest.raises(ValueError, match="context='all'"):
        kseq.models.Decoder(5, 4, kseq.cells.GRUCell(3), context="all")
    with pytest.raises(ValueError, match="num_layers=0"):
        kseq.models.Encoder(5, 4, kseq.cells.GRUCell(3), num_layers=0)


def test_encoder_rows_without_tokens(batch):
    encoder = kseq.models.Encoder(SOURCES, 8, kseq.cells.LSTMCell(6), bidirectional=True)
    encoded = encoder(batch["source"], batch["source_lengths"])
    assert len(encoded.states) == 4
    assert np.all(np.asarray(encoded.values)[3] == 0)
    assert all(np.all(np.asarray(state)[3] == 0) for state in encoded.states)


def test_one_direction(batch):
    model = make_model(bidirectional=False)
    assert model.encoder(batch["source"], batch["source_lengths"]).values.shape == (5, 9, 6)
    assert_all_close([np.asarray(model(batch))], [np.asarray(model(batch))])


@pytest.mark.long
def test_gradients_of_the_step_by_step_loop_equal_the_eager_ones(batch):
    import tensorflow as tf

    model = make_model("input feeding", num_layers=1)

    def gradients(inputs):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(inputs, training=True)))
        return tape.gradient(loss, model.trainable_weights)

    eager = [np.asarray(tf.convert_to_tensor(g)) for g in gradients(batch)]
    for jit_compile in (False, True):
        graph = tf.function(gradients, jit_compile=jit_compile, autograph=False)(batch)
        assert_all_close([np.asarray(tf.convert_to_tensor(g)) for g in graph], eager, atol=1e-4, rtol=1e-4)


def test_decodes_before_it_was_trained_or_called():
    encoder, decoder = (
        kseq.models.Encoder(9, 4, kseq.cells.GRUCell(2)),
        kseq.models.Decoder(9, 4, kseq.cells.GRUCell(2)),
    )
    model = kseq.models.Seq2Seq(encoder, decoder)
    decoded = model.decode(np.ones((2, 3), "int32"), np.array([3, 2]), strategy="greedy", max_length=2)
    assert decoded.tokens.shape == (2, 1, 2)
