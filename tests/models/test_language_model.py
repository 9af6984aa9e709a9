"""Language models: probabilities, states, truncated backpropagation through time, and writing."""

import functools
import itertools
import types

import keras
import numpy as np
import pytest
from keras import ops

import kseq
from tests.support import BACKEND, compiled

IDS = 11
STRATEGIES = [
    ("recurrent", "greedy"),
    *[
        pytest.param("recurrent", name, marks=pytest.mark.long)
        for name in ("beam", "sampling", "contrastive", "diverse_beam", "stochastic_beam")
    ],
    pytest.param("transformer", "beam", marks=pytest.mark.long),
]
TEXTS = [[4, 5, 6, 7], [8], [9, 10, 4]]
STACK = [kseq.cells.LSTMCell(5), kseq.cells.ResidualCell(kseq.cells.GRUCell(5))]
ENCODERS = {
    "recurrent": lambda: kseq.models.Encoder(
        IDS, 5, kseq.cells.LearnedStateCell(kseq.cells.GRUCell(5)), num_layers=2, residual=True, bidirectional=False
    ),
    "stacked": lambda: kseq.models.Encoder(IDS, 5, kseq.cells.StackedCells(STACK), bidirectional=False),
    "transformer": lambda: kseq.models.TransformerEncoder(
        IDS, 4, num_layers=2, num_heads=2, intermediate_dim=6, positions="learned", causal=True, max_length=12
    ),
}


def make_model(kind="recurrent", **options):
    keras.utils.set_random_seed(7)
    model = kseq.models.LanguageModel(ENCODERS[kind](), **options)
    model.build()
    random = np.random.default_rng(1)
    model.set_weights([0.7 * random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


kept = functools.cache(make_model)  # models whose weights no test changes


@pytest.fixture(params=ENCODERS)
def model(request):
    """A model whose weights no test changes."""
    return kept(request.param)


def text_by_steps(model, text, bos=2):
    """Return the log-probabilities of each next token, by single steps: the reference."""
    state, rows = model.initial_state(1), []
    for token in ([bos] if bos is not None else []) + text:
        logits, state = model.step(np.array([token]), state)[:2]
        rows.append(np.asarray(ops.log_softmax(logits))[0])
    return np.array(rows)


def test_whole_texts_and_single_steps_agree(model):
    ids = np.array([[2, 4, 5, 6, 7], [2, 8, 0, 0, 0]], "int32")
    logits = np.asarray(model({"source": ids, "lengths": np.array([5, 2], "int32")}))
    for row, text in ((0, [4, 5, 6, 7]), (1, [8])):
        expected = text_by_steps(model, text)
        np.testing.assert_allclose(ops.log_softmax(logits[row, : len(text) + 1]), expected, atol=1e-5)


@pytest.mark.long
def test_log_probabilities_and_perplexity_of_texts(model):
    expected = [
        sum(row[token] for row, token in zip(text_by_steps(model, text), [*text, 3], strict=True)) for text in TEXTS
    ]
    np.testing.assert_allclose(model.log_probability(TEXTS), expected, rtol=1e-5)
    np.testing.assert_allclose(model.perplexity(TEXTS), np.exp(-sum(expected) / 11), rtol=1e-5)
    outputs = np.array([[[4, 5, 6, 7, 3], [8, 3, 0, 0, 0]]])  # two outputs of one row, as in `Decoded`
    np.testing.assert_allclose(model.score(outputs, np.array([[5, 2]])), [expected[:2]], rtol=1e-5)
    state = model.initial_state(1, 5)
    steps = kseq.decoding.token_log_probabilities(model.step, state, outputs, np.array([[5, 2]]), bos_id=2)
    np.testing.assert_allclose(np.sum(steps, axis=-1), [expected[:2]], rtol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["recurrent", "transformer"])
def test_evaluate_of_whole_texts_is_the_mean_per_token(kind):
    model = kept(kind)
    model.compile("adam", run_eagerly=True)
    loss, perplexity = model.evaluate(TEXTS, verbose=0)
    np.testing.assert_allclose(loss, -np.sum(model.log_probability(TEXTS)) / 11, rtol=1e-5)
    np.testing.assert_allclose(perplexity, model.perplexity(TEXTS), rtol=1e-5)
    padded = np.array([[4, 5, 6, 7], [8, 0, 0, 0], [9, 10, 4, 0]])
    np.testing.assert_allclose(model.evaluate(padded, verbose=0)[0], loss, rtol=1e-6)
    given = {"source": padded, "lengths": np.array([4, 1, 3])}
    np.testing.assert_allclose(model.evaluate(given, verbose=0)[0], loss, rtol=1e-6)


@pytest.mark.long
def test_rows_of_arrays_end_before_their_padding_as_in_fit():
    model = kept("recurrent")
    padded = np.array([[4, 5, 6, 7], [8, 0, 0, 0], [9, 10, 4, 0]])
    np.testing.assert_allclose(model.log_probability(padded), model.log_probability(TEXTS), rtol=1e-6)
    assert model.perplexity(padded) == pytest.approx(model.perplexity(TEXTS))
    options = {"strategy": "greedy", "max_length": 2}
    assert model.generate(ops.convert_to_tensor(padded), **options) == model.generate(TEXTS, **options)


def test_what_has_no_answer_is_refused():
    model = kept("recurrent")
    with pytest.raises(ValueError, match="0 texts have no token to predict, so they have no perplexity"):
        model.perplexity([])
    with pytest.raises(ValueError, match=r"Row 0 of log_probability's ids has shape \(\), but a text is a list of ids"):
        model.log_probability([4, 5])
    for most in (0, -1, 1.5):
        with pytest.raises(ValueError, match=rf"max_length={most}, but LanguageModel needs a positive int"):
            model.generate([[4]], max_length=most)
    for rows in (1, 3):
        state, message = model.initial_state(rows), f"The state has {rows} rows, but there are 2"
        with pytest.raises(ValueError, match=message):
            model.generate([[4], [5, 6]], strategy="greedy", max_length=2, state=state)
        with pytest.raises(ValueError, match=message):
            model.decode([[4], [5, 6]], strategy="greedy", max_length=4, state=state)
        with pytest.raises(ValueError, match=message):
            model.read(np.array([[4], [5]]), np.array([1, 1]), state)


@pytest.mark.long
def test_without_a_begin_token_the_first_token_is_given():
    model = make_model(bos_id=None)
    expected = [
        sum(row[token] for row, token in zip(text_by_steps(model, text, bos=None), [*text[1:], 3], strict=True))
        for text in TEXTS
    ]
    np.testing.assert_allclose(model.log_probability(TEXTS), expected, rtol=1e-5)
    model.compile("adam", run_eagerly=True)
    np.testing.assert_allclose(model.evaluate(TEXTS, verbose=0)[0], -sum(expected) / 8, rtol=1e-5)


class TestContinuousBatches:
    """Truncated backpropagation through time."""

    TEXT = np.random.default_rng(3).integers(4, IDS, 41)

    @staticmethod
    def chunks(batches, name="source"):
        return np.concatenate([np.asarray(batch[name]) for batch in batches], axis=1)

    @pytest.mark.long_on_jax
    @pytest.mark.parametrize("kind", ["recurrent", pytest.param("stacked", marks=pytest.mark.long)])
    @pytest.mark.parametrize("ends", [pytest.param(None, marks=pytest.mark.long), [3, 4, 17, 41]])
    def test_the_carried_state_gives_the_outputs_of_each_document_read_at_once(self, kind, ends):
        if BACKEND == "jax" and ends is None:
            pytest.skip("fit runs this on JAX")
        model = make_model(kind)
        batches = list(kseq.training.continuous_batches(self.TEXT, 2, 6, document_ends=ends))
        logits = []
        for batch in batches:
            arrays = {name: np.asarray(value) for name, value in batch.items()}
            of_both = [np.asarray(model(arrays, training=training)) for training in (False, True)]
            np.testing.assert_allclose(*of_both, atol=1e-5)  # training and evaluation have states of their own
            logits.append(of_both[0])
        logits = np.concatenate(logits, axis=1)
        real = np.concatenate([np.arange(6) < np.asarray(b["lengths"])[:, None] for b in batches], axis=1)
        source, reset = self.chunks(batches), np.zeros(real.shape, bool)
        reset[:, 0] = True
        if ends is not None:
            reset = self.chunks(batches, "reset")
            assert reset.sum() > 3
        for row in range(2):
            begins = [*np.flatnonzero(reset[row]), int(real[row].sum())]
            for begin, end in itertools.pairwise(begins):
                whole = model({"source": source[row : row + 1, begin:end], "lengths": np.array([end - begin])})
                np.testing.assert_allclose(logits[row, begin:end], whole[0], atol=1e-5)

    @pytest.mark.long
    def test_a_chunk_that_is_the_whole_text_gives_the_gradients_of_the_whole(self):
        ends = [3, 4, 17, 41]
        texts = [self.TEXT[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        rows = {"source": [t[:-1] for t in texts if len(t) > 1], "target": [t[1:] for t in texts if len(t) > 1]}
        answers = {}
        for name in ("documents", "one text", "rows"):
            model = make_model()
            model.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
            if name == "rows":
                loss = model.train_on_batch({k: [row.tolist() for row in v] for k, v in rows.items()})[0]
            else:
                end = ends if name == "documents" else None
                (batch,) = kseq.training.continuous_batches(self.TEXT, 1, 40, document_ends=end)
                loss = model.train_on_batch({k: np.asarray(v) for k, v in batch.items()})[0]
            answers[name] = loss, [np.asarray(weight) for weight in model.weights]
        np.testing.assert_allclose(answers["documents"][0], answers["rows"][0], rtol=1e-5)
        for one, other in zip(answers["documents"][1], answers["rows"][1], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
        assert abs(answers["one text"][0] - answers["rows"][0]) > 1e-3

    def test_no_gradient_passes_into_the_batch_before(self):
        """The first batch has the only token 4, whose embedding therefore moves in that batch alone."""
        model = make_model()
        model.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
        text = np.array([4, 4, 4, 4, 5, 6, 7, 8, 9])
        first, second = kseq.training.continuous_batches(text, 1, 4)
        moved = []
        for batch in (first, second):
            before = np.asarray(model.encoder.embedding.embeddings)
            model.train_on_batch({k: np.asarray(v) for k, v in batch.items()})
            moved.append(np.abs(np.asarray(model.encoder.embedding.embeddings) - before).sum(axis=1)[4])
        assert moved[0] > 0
        assert moved[1] == 0

    @pytest.mark.long
    @pytest.mark.every_backend
    def test_fit_carries_states_and_evaluation_does_not_disturb_them(self):
        """The loss of an epoch with a learning rate of 0 is that of the whole rows."""
        model, text = make_model(), self.TEXT
        model.compile(keras.optimizers.SGD(0.0), metrics=[])
        batches = kseq.training.continuous_batches(text, 2, 5)
        rows = kseq.training.continuous_batches(text, 2, 20)
        model.fit(batches, epochs=1, verbose=0)  # on JAX, Keras calls the model outside of training first
        history = model.fit(batches, validation_data=batches, epochs=2, verbose=0).history
        expected = float(np.asarray(model.evaluate(rows, verbose=0)))
        other = kseq.training.continuous_batches(text, 2, 5, document_ends=[len(text)])  # reset has another shape
        np.testing.assert_allclose(np.asarray(model.evaluate(other, verbose=0)), expected, rtol=1e-5)
        np.testing.assert_allclose(history["loss"] + history["val_loss"], [expected] * 4, rtol=1e-5)
        assert len(model.weights) == len(make_model().weights)

    @pytest.mark.long
    def test_fit_compiled_by_xla(self):
        model, eager = make_model(), make_model()
        model.compile(keras.optimizers.SGD(0.0), jit_compile=True)
        eager.compile("sgd", run_eagerly=True)
        batches = kseq.training.continuous_batches(self.TEXT, 2, 5, document_ends=[3, 4, 17, 41])
        losses = model.fit(batches, epochs=2, verbose=0).history["loss"]
        np.testing.assert_allclose(losses, [eager.evaluate(batches, verbose=0)[0]] * 2, rtol=1e-4)

    @pytest.mark.every_backend
    @pytest.mark.long
    def test_fit_on_documents(self):
        """Keras takes the variables' values away while it fits on JAX."""
        model, eager = make_model("stacked"), make_model("stacked")
        model.compile(keras.optimizers.SGD(0.0))
        eager.compile("sgd", run_eagerly=BACKEND == "tensorflow")
        batches = kseq.training.continuous_batches(self.TEXT, 2, 5, document_ends=[3, 4, 17, 41])
        losses = model.fit(batches, epochs=1, verbose=0, validation_data=(batches,)).history
        expected = eager.evaluate(batches, verbose=0)[0]
        np.testing.assert_allclose([*losses["loss"], *losses["val_loss"]], [expected] * 2, rtol=1e-4)

    @pytest.mark.long
    def test_what_is_refused(self):
        model = make_model()
        model.compile("adam", run_eagerly=True)
        (batch,) = kseq.training.continuous_batches(self.TEXT, 2, 20)
        arrays = {name: np.asarray(value) for name, value in batch.items()}
        with pytest.raises(ValueError, match=r"fit would cut and shuffle arrays with reset"):
            model.fit(arrays)
        with pytest.raises(ValueError, match=r"reset has dtype int64 and shape \(2,\), but it must be bool \(2,\)"):
            model.train_on_batch({**arrays, "reset": np.array([1, 0])})
        transformer = make_model("transformer")
        transformer.compile("adam", run_eagerly=True)
        (other,) = kseq.training.continuous_batches(self.TEXT, 4, 10, document_ends=[20, 41])
        with pytest.raises(ValueError, match=r"TransformerEncoder attends to all tokens of a row"):
            transformer.train_on_batch({name: np.asarray(value) for name, value in other.items()})
        (chunks,) = kseq.training.continuous_batches(self.TEXT, 4, 10)
        assert np.isfinite(transformer.train_on_batch({name: np.asarray(value) for name, value in chunks.items()})[0])


class TestWriting:
    """Continuations of prompts."""

    @pytest.mark.long
    @pytest.mark.parametrize(("kind", "strategy"), STRATEGIES)
    def test_every_strategy_goes_on_from_prompts(self, kind, strategy):
        model = kept(kind)
        prompt = [[4, 5, 6], [8], []]
        decoded = model.decode(prompt, strategy=strategy, max_length=6, **({} if strategy == "greedy" else {"seed": 1}))
        tokens, lengths = np.asarray(decoded.tokens), np.asarray(decoded.lengths)
        for row, first in enumerate(prompt):
            assert tokens[row, 0, : len(first)].tolist() == first
            written = tokens[row, 0, : lengths[row, 0]].tolist()
            rows = text_by_steps(model, written)
            own = sum(rows[place][written[place]] for place in range(len(first), len(written)))
            np.testing.assert_allclose(np.asarray(decoded.log_probabilities)[row, 0].sum(), own, rtol=1e-4)

    @pytest.mark.parametrize("kind", ["recurrent", pytest.param("transformer", marks=pytest.mark.long)])
    def test_greedy_answers_take_the_best_token_of_each_step(self, kind):
        model = kept(kind)
        (answer,) = model.generate([[4, 5]], strategy="greedy", max_length=4)
        text = [4, 5]
        for token in answer:
            assert token == text_by_steps(model, text)[-1].argmax()
            text.append(token)
        assert len(answer) == 4 or answer[-1] == 3

    @pytest.mark.long
    def test_an_answer_does_not_depend_on_other_prompts(self):
        model, prompts = kept("recurrent"), [[4, 5], [8], [9, 10]]
        many = model.generate(prompts, max_length=4, seed=5)
        alone = [model.generate([prompt], max_length=4, seed=5 + place)[0] for place, prompt in enumerate(prompts)]
        assert alone == many
        found = model.generate([[4]], strategy=kseq.decoding.BeamSearch(top_paths=2), max_length=4, n_best=True)
        assert len(found[0]) == 2
        assert found[0][0][1] >= found[0][1][1]

    @pytest.mark.long
    @pytest.mark.parametrize("kind", ["recurrent", "transformer"])
    def test_without_a_begin_token_the_first_token_of_the_prompt_begins(self, kind):
        model = make_model(kind, bos_id=None)
        decoded = model.decode([[4, 5], [8]], strategy="greedy", max_length=5)
        for row, first in enumerate([[4, 5], [8]]):
            text = list(first)
            while len(text) < 5 and text[-1] != 3:
                text.append(int(text_by_steps(model, text, bos=None)[-1].argmax()))
            assert np.asarray(decoded.tokens)[row, 0, : len(text)].tolist() == text
            assert np.asarray(decoded.lengths)[row, 0] == len(text)
        with pytest.raises(ValueError, match=r"prompt\[1\] is empty, but a model without a begin token"):
            model.decode([[4], []], strategy="greedy", max_length=5)
        with pytest.raises(ValueError, match="There is no prompt, but a model without a begin token"):
            model.decode(strategy="greedy", max_length=5)
        if kind == "recurrent":
            run = compiled(lambda ids, lengths: model.decode(ids, lengths, strategy="greedy", max_length=5).scores)
            scores = np.asarray(run(np.array([[4], [8], [3], [99]]), np.array([1, 0, 1, 1])))[:, 0]
            assert np.isfinite(scores).tolist() == [True, False, False, False]

    @pytest.mark.long
    def test_a_text_goes_on_from_a_state(self):
        model = make_model()
        whole = model.generate([[4, 5, 6, 7]], strategy="greedy", max_length=4)
        logits, state = model.read(np.array([[2, 4, 5, 0]]), np.array([3]))
        np.testing.assert_allclose(ops.log_softmax(logits[0, :3]), text_by_steps(model, [4, 5]), atol=1e-5)
        _, state = model.read(np.array([[6]]), np.array([1]), state)
        both = np.array([[6, 0], [4, 5]]), np.array([1, 2])
        encoded, after = model.encoder.read_on(*both, model.initial_state(2))
        by_steps, final = model.encoder.read_on(*both, model.initial_state(2), np.zeros((2, 2), bool))
        for one, other in zip([encoded.values, *after], [by_steps.values, *final], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
        assert model.generate([[7]], strategy="greedy", max_length=4, state=state) == whole
        with pytest.raises(ValueError, match="or that goes on from a state, needs one with a token or more"):
            model.decode(strategy="greedy", max_length=4, state=state)
        with pytest.raises(ValueError, match="carries no state from text to text"):
            make_model("transformer").read(np.array([[6]]), np.array([1]))

    def test_a_stream_holds_back_characters_until_they_are_complete(self, monkeypatch):
        tokenizer = kseq.text.ByteTokenizer()
        encoder = kseq.models.Encoder(tokenizer.vocabulary_size, 3, kseq.cells.GRUCell(3), bidirectional=False)
        model = kseq.models.LanguageModel(encoder, tokenizer=tokenizer)
        model.build()
        written = tokenizer.tokenize(["é€"]).to_list()[0]
        steps = [types.SimpleNamespace(tokens=[token]) for token in written[:4]]  # the last byte is missing
        monkeypatch.setattr(model, "_make_streaming", lambda *_: lambda *_, **__: iter([None, *steps]))
        assert list(model.stream("a", max_length=5)) == ["", "é", "", "", "\ufffd"]

    @pytest.mark.long
    @pytest.mark.parametrize("bos_id", [2, None])
    def test_streams_are_the_texts_in_pieces(self, bos_id):
        model = make_model(bos_id=bos_id, tokenizer=kseq.text.CharacterTokenizer([*"abcdefg"]))
        for seed in (1, 2):
            pieces = list(model.stream("ab", max_length=5, seed=seed))
            assert "".join(pieces) == model.generate("ab", max_length=5, seed=seed)

    def test_a_transformer_has_no_room_for_more_than_its_positions(self):
        model = make_model("transformer")
        with pytest.raises(ValueError, match=r"A text of 13 tokens shall be read, .* at most max_length=12"):
            model.generate([[4, 5, 6]], max_length=10)
        with pytest.raises(ValueError, match="causal=True needs max_length"):
            kseq.models.TransformerEncoder(IDS, 4, num_heads=2, causal=True)


class TestOtherModels:
    """Language models beside other models."""

    @pytest.mark.long
    def test_fusion_and_rescoring(self):
        language, step = make_model(), lambda tokens, state: (ops.zeros((ops.shape(tokens)[0], IDS)), state)
        fused = kseq.decoding.FusionStep(step=step, language_model=language.step, weight=1.0)
        states = np.zeros((2, 1), "float32"), language.initial_state(2)
        search = kseq.decoding.BeamSearch(beam_width=3, top_paths=2)
        decoded = search(fused, states, bos_id=2, eos_id=3, max_length=5)
        alone = search(language.step, language.initial_state(2), bos_id=2, eos_id=3, max_length=5)
        assert np.asarray(decoded.tokens).tolist() == np.asarray(alone.tokens).tolist()
        np.testing.assert_allclose(language.score(decoded.tokens, decoded.lengths), alone.scores, rtol=1e-5)
        zeroed = decoded._replace(scores=ops.zeros_like(decoded.scores))
        ranked = kseq.rescore(zeroed, zeroed.scores + language.score(decoded.tokens, decoded.lengths))
        np.testing.assert_allclose(ranked.scores, alone.scores, rtol=1e-5)

    @pytest.mark.long
    def test_ctc_searches_are_scored(self):
        """With one path for each text and logits that like all alike, the language model chooses."""
        language = make_model()
        scorer = kseq.decoding.LanguageModelScorer(
            step=language.step, state=language.initial_state(1), bos_id=2, eos_id=3, weight=20.0
        )
        logits = np.full((1, 2, IDS), -50.0, "float32")
        logits[0, 0, [4, 5]] = logits[0, 1, [6, 7]] = 0.0
        decoded = kseq.ctc_beam_search(logits, np.array([2]), beam_width=8, scorers=(scorer,))
        best = max([[a, b] for a in (4, 5) for b in (6, 7)], key=lambda text: language.log_probability([text])[0])
        assert np.asarray(decoded.tokens)[0, 0].tolist() == best

    @pytest.mark.parametrize("kind", ["recurrent", "transformer"])
    def test_another_model_begins_with_the_weights_of_the_encoder(self, kind):
        language = make_model(kind)
        classifier = kseq.models.SequenceClassifier(ENCODERS[kind](), 3)
        classifier.build()
        classifier.encoder.set_weights(language.encoder.get_weights())
        ids, lengths = np.array([[4, 5]], "int32"), np.array([2], "int32")
        np.testing.assert_array_equal(classifier.encoder(ids, lengths).values, language.encoder(ids, lengths).values)


def test_what_the_constructor_refuses():
    make = kseq.models.LanguageModel
    with pytest.raises(ValueError, match="a Encoder, is not causal or cannot take single steps"):
        make(kseq.models.Encoder(IDS, 4, kseq.cells.GRUCell(4)))
    with pytest.raises(ValueError, match="a TransformerEncoder, is not causal"):
        make(kseq.models.TransformerEncoder(IDS, 4, num_heads=2))
    with pytest.raises(ValueError, match=r"tie_embeddings=True needs .* they have 4 and 6 numbers"):
        make(kseq.models.Encoder(IDS, 4, kseq.cells.GRUCell(6), bidirectional=False), tie_embeddings=True)
    encoder = kseq.models.Encoder(IDS, 4, kseq.cells.GRUCell(4), bidirectional=False)
    with pytest.raises(ValueError, match="The tokenizer adds begin or end tokens"):
        make(encoder, tokenizer=kseq.text.CharacterTokenizer([*"abc"], add_eos=True))
    with pytest.raises(ValueError, match=r"the model has bos_id=1 and eos_id=3"):
        make(encoder, bos_id=1, tokenizer=kseq.text.CharacterTokenizer([*"abc"]))
    with pytest.raises(ValueError, match="The source tokenizer has 14 ids, but the model reads 11"):
        make(encoder, tokenizer=kseq.text.CharacterTokenizer([*"abcdefghij"]))


def test_what_fit_refuses():
    model = make_model()
    model.compile("adam", run_eagerly=True)
    with pytest.raises(ValueError, match=r"target has shape \(1, 1\), but source has shape \(1, 2\)"):
        model.fit({"source": np.array([[4, 5]]), "lengths": np.array([2]), "target": np.array([[5]])})
    with pytest.raises(ValueError, match=r"target\[0, 1\] = 99 is not a token id"):
        model.fit({"source": np.array([[4, 5]]), "lengths": np.array([2]), "target": np.array([[5, 99]])})
    with pytest.raises(ValueError, match=r"The values of source\[0\] have dtype"):
        model.fit([[4.5]])
    with pytest.raises(ValueError, match=r"source\[0\] has shape \(\), but a text is a list of token ids"):
        model.fit([4, 5])
    with pytest.raises(ValueError, match=r"source\[1, 1\] = 99 is not a token id"):
        model.fit([[4, 5], [99]])


@pytest.mark.long
def test_bucketed_texts_train():
    rows = {"source": [[2, *row] for row in TEXTS], "target": [[*row, 3] for row in TEXTS]}
    batches = kseq.training.bucket_by_length(rows, batch_size=2, buckets=[3, 6], bos_id=None, eos_id=None)
    model = make_model()
    model.compile("adam")
    np.testing.assert_allclose(
        model.evaluate(batches, verbose=0, return_dict=True)["perplexity"], model.perplexity(TEXTS), rtol=1e-5
    )
