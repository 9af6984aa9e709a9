"""Encoders of vectors and pictures beyond their contract: values by hand, models of one to many, and errors."""

import keras
import numpy as np
import pytest

import kseq
from kseq.models import GridEncoder, Seq2Seq, VectorEncoder
from kseq.models.inputs.source_inputs import source_of
from tests.support import assert_all_close, compiled

TOKENS = 9
TARGETS = {
    "target": np.array([[2, 4, 5, 3], [2, 6, 3, 0], [2, 3, 0, 0]]),
    "target_lengths": np.array([4, 3, 2], "int32"),
}


def decoder(units=3, **options):
    return kseq.models.Decoder(TOKENS, 4, kseq.cells.GRUCell(units), **options)


def pictures(*shape, rows=3, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, *shape)).astype("float32")


def drawn(model, seed=1):
    """Return the model with drawn weights."""
    model.build()
    random = np.random.default_rng(seed)
    model.set_weights([0.7 * random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def captioner():
    """A model from pictures to texts, whose weights no test changes."""
    words = kseq.text.WordTokenizer(add_bos=True, add_eos=True).adapt(["a b c d e"])
    encoder = GridEncoder((4, 6, 2), 5, convolutions=(3,))
    model = drawn(Seq2Seq(encoder, decoder(input_feeding=True), target_tokenizer=words))
    model.compile(run_eagerly=True)
    return model


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (VectorEncoder, {"size": 4, "units": 3, "activation": "relu", "dropout": 0.2}),
        (GridEncoder, {"shape": [4, 6, 2], "units": 3, "convolutions": [5], "positions": False, "dropout": 0.2}),
    ],
)
def test_the_config_holds_what_was_given(kind, options):
    assert kind(**options).get_config().items() >= options.items()


class TestVectorEncoder:
    def test_equals_its_equation(self):
        encoder = drawn(VectorEncoder(4, 3))
        kernel, bias = encoder.get_weights()
        values = pictures(4)
        encoded, expected = encoder(values), np.tanh(values @ kernel + bias)
        assert_all_close([encoded.values[:, 0], encoded.states[0]], [expected, expected], atol=1e-6)
        np.testing.assert_array_equal(encoded.mask, np.ones((3, 1), bool))

    @pytest.mark.long
    @pytest.mark.parametrize("context", ["every_step", "initial"])
    def test_models_learn_to_write_a_vector(self, context):
        """A vector of ones and zeros tells which tokens to write."""
        keras.utils.set_random_seed(0)
        targets = np.array([[2, 4, 6, 3], [2, 5, 6, 3], [2, 4, 7, 3], [2, 5, 7, 3]])
        vectors = np.array([[1, 1], [0, 1], [1, 0], [0, 0]], "int64")
        model = Seq2Seq(VectorEncoder(2, 8), decoder(8, context=context))
        model.compile(keras.optimizers.Adam(0.05))
        model.fit(np.tile(vectors, (60, 1)), np.tile(targets, (60, 1)), batch_size=4, verbose=0)
        wrote = model.decode(vectors, strategy="greedy", max_length=3).tokens
        np.testing.assert_array_equal(np.asarray(wrote)[:, 0], targets[:, 1:])


class TestGridEncoder:
    def test_cells_have_features_and_vectors_of_their_row_and_column(self):
        encoder = drawn(GridEncoder((2, 3, 4), 5, convolutions=()))
        rows, columns, kernel, bias = encoder.get_weights()
        values = pictures(2, 3, 4)
        expected = values @ kernel + bias + rows[:, None] + columns
        encoded = encoder(values)
        expected = expected.reshape(3, 6, 5)
        assert_all_close([encoded.values, encoded.states[0]], [expected, expected.mean(axis=1)], atol=1e-5)
        assert encoder.grid_shape == (2, 3)

    def test_convolutions_halve_the_picture(self):
        encoder = GridEncoder((5, 6, 2), 4, convolutions=(3, 2))
        assert encoder.grid_shape == (2, 2)
        encoded = encoder(pictures(5, 6, 2))
        assert encoded.values.shape == (3, 4, 4)

    def test_of_cells_alone_left_and_right_are_told_by_positions(self):
        """A picture's mirror image has the same cells, in another order."""
        picture = pictures(1, 4, 2)
        for positions in (True, False):
            model = drawn(Seq2Seq(GridEncoder((1, 4, 2), 5, convolutions=(), positions=positions), decoder()))
            one, other = (model({"source": x, **TARGETS}) for x in (picture, picture[:, :, ::-1]))
            assert np.allclose(one, other, atol=1e-5) != positions

    @pytest.mark.long
    @pytest.mark.every_backend
    def test_a_given_model_is_trained_or_frozen(self):
        for trainable in (True, False):
            network = keras.Sequential([keras.layers.Conv2D(3, 2), keras.layers.BatchNormalization()])
            network.trainable = trainable
            encoder = GridEncoder((3, 3, 1), 2, convolutions=network)
            model = Seq2Seq(encoder, decoder())
            model.compile("sgd")
            model.build()
            before = [np.array(weight) for weight in network.weights]
            model.train_on_batch({"source": 5 + pictures(3, 3, 1), **TARGETS})
            changed = [not np.array_equal(weight, old) for weight, old in zip(network.weights, before, strict=True)]
            assert any(changed) == trainable
            assert network.weights[-1].name == "moving_variance"
            assert changed[-1] == trainable

    @pytest.mark.parametrize(
        ("arguments", "options", "message"),
        [
            (((4, 6), 5), {}, r"shape=\(4, 6\), but a GridEncoder reads pictures \(height, width, channels\)"),
            (((4, 0, 1), 5), {}, "needs sizes of at least 1"),
            (((4, 6, 1), 5), {"convolutions": (3, 0)}, "a convolution has at least 1 filter"),
            (((4, 6, 1), 5), {"convolutions": keras.layers.Flatten()}, r"make \(None, 24\) of .* a grid"),
            (((4, 6, 1), 5), {"positions": 1}, "positions must be True or False"),
            (((4, 6, 1), 0), {}, "units=0"),
        ],
    )
    def test_wrong_options_are_refused(self, arguments, options, message):
        with pytest.raises(ValueError, match=message):
            GridEncoder(*arguments, **options)

    def test_other_sizes_and_lengths_are_refused(self):
        encoder = GridEncoder((4, 6, 2), 5)
        with pytest.raises(ValueError, match=r"reads arrays \('batch', 4, 6, 2\), but got shape \(3, 5, 6, 2\)"):
            encoder(pictures(5, 6, 2))
        with pytest.raises(ValueError, match="reads arrays without padding"):
            encoder(pictures(4, 6, 2), np.ones(3, "int32"))


class TestDescribe:
    @pytest.mark.long
    def test_writes_what_decode_writes(self, captioner):
        given, beam = pictures(4, 6, 2), kseq.decoding.BeamSearch(beam_width=3, top_paths=2)
        decoded = captioner.decode(given, strategy=beam, max_length=4)
        texts = captioner.target_tokenizer.detokenize(decoded.tokens).numpy()
        answers = captioner.describe(given, strategy=beam, max_length=4, n_best=True)
        assert [[text for text, _ in row] for row in answers] == [[text.decode() for text in row] for row in texts]
        np.testing.assert_allclose([[score for _, score in row] for row in answers], decoded.scores, rtol=1e-5)
        assert captioner.describe(given[0], strategy=beam, max_length=4) == answers[0][0][0]
        assert captioner.describe([]) == []

    def test_alignments_are_weights_of_the_cells(self, captioner):
        decoded = captioner.decode(pictures(4, 6, 2), strategy="greedy", max_length=5)
        assert decoded.alignments.shape == (3, 1, 5, 6)
        weights = np.asarray(decoded.alignments)[0, 0, : decoded.lengths[0, 0]]
        np.testing.assert_allclose(weights.sum(axis=-1), 1.0, rtol=1e-5)

    def test_what_does_not_fit_is_refused(self, captioner):
        with pytest.raises(ValueError, match=r"source\[1\] has shape \(5, 6, 2\), but this model reads .* \(4, 6, 2\)"):
            captioner.describe([np.zeros((4, 6, 2)), np.zeros((5, 6, 2))])
        wrong = pictures(4, 6, 2)
        wrong[1, 2, 3, 1] = np.inf
        with pytest.raises(ValueError, match=r"source\[1, 2, 3, 1\] = inf, but expected a finite number"):
            captioner.describe(wrong)
        with pytest.raises(ValueError, match=r"this model reads arrays .* call describe"):
            captioner.translate(["a"])
        with pytest.raises(ValueError, match="describe reads arrays, but this Seq2Seq reads tokens: call translate"):
            Seq2Seq(kseq.models.Encoder(9, 4, kseq.cells.GRUCell(3)), decoder()).describe(wrong)
        with pytest.raises(ValueError, match="describe needs a target_tokenizer"):
            Seq2Seq(VectorEncoder(4, 3), decoder()).describe(pictures(4))


class TestInputs:
    """What models that read arrays accept and refuse."""

    @pytest.mark.long
    def test_lists_and_batches_with_one_array_a_row(self, captioner):
        given = pictures(4, 6, 2)
        expected = captioner.evaluate({"source": given, **TARGETS}, verbose=0)
        rows = [row[:length] for row, length in zip(TARGETS["target"], TARGETS["target_lengths"], strict=True)]
        np.testing.assert_allclose(captioner.evaluate(list(given), rows, verbose=0), expected, rtol=1e-5)
        batches = kseq.training.bucket_by_length(
            {"source": given, "target": rows}, batch_size=4, buckets={"target": [5]}, per_row=["source"]
        )  # the last row of the batch is of length 0
        np.testing.assert_allclose(captioner.evaluate(batches, verbose=0), expected, rtol=1e-5)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda x: x[:, :3],
                r"source has shape \(3, 3, 6, 2\), but this model reads one array of shape \(4, 6, 2\)",
            ),
            (lambda x: x[..., 0], r"source has shape \(3, 4, 6\), "),
            (lambda x: x.astype(str), "source have dtype <U32, but they must be numbers"),
            (lambda x: np.where(np.arange(2), x, np.nan), r"source\[0, 0, 0, 0\] = nan"),
            (lambda x: 1e300 * x.astype("float64"), r"source\[0, 0, 0, 0\] = .*e\+2"),
            (lambda x: x[:0], "The batch is empty"),
            (lambda x: x[:2], "equally many rows"),
            (lambda x: [*x[:2], x[0, :3]], "source is not a row of numbers"),
        ],
    )
    def test_wrong_arrays_are_refused(self, captioner, change, message):
        with pytest.raises(ValueError, match=message):
            captioner.predict({"source": change(pictures(4, 6, 2)), **TARGETS}, verbose=0)

    def test_lengths_and_missing_targets_are_refused(self, captioner):
        given = pictures(4, 6, 2)
        with pytest.raises(ValueError, match="reads arrays without padding"):
            captioner.predict({"source": given, "source_lengths": np.ones(3, "int32"), **TARGETS}, verbose=0)
        with pytest.raises(ValueError, match="reads arrays without padding"):
            captioner.decode(given, np.ones(3, "int32"), strategy="greedy", max_length=3)
        with pytest.raises(ValueError, match="lack the target"):
            captioner.predict({"source": given}, verbose=0)

    @pytest.mark.long
    @pytest.mark.long_on_jax
    def test_a_compiled_row_with_nan_has_no_score_and_changes_no_other(self, captioner):
        given = pictures(4, 6, 2)
        run = compiled(lambda x: captioner.decode(x, strategy="greedy", max_length=4)[:3])
        tokens, lengths, scores = run(given)
        given[1, 0, 0, 0] = np.nan
        other = run(given)
        assert np.isnan(other[2][1, 0])
        assert_all_close(
            [x[[0, 2]] for x in map(np.asarray, other)], [x[[0, 2]] for x in map(np.asarray, (tokens, lengths, scores))]
        )

    def test_tokenizers_and_copies_of_the_source_are_refused(self, captioner):
        words = captioner.target_tokenizer
        with pytest.raises(ValueError, match=r"source is a tokenizer, but the model reads arrays of shape \(4,\)"):
            Seq2Seq(VectorEncoder(4, 3), decoder(), source_tokenizer=words)
        pointer = kseq.models.PointerDecoder(TOKENS, 4, kseq.cells.GRUCell(3), copies=[0, 1, 2])
        with pytest.raises(ValueError, match="copies source tokens, but a VectorEncoder reads none"):
            Seq2Seq(VectorEncoder(4, 3), pointer)
        with pytest.raises(ValueError, match="read the same tokens, but a VectorEncoder reads none"):
            kseq.models.ParallelEncoder([VectorEncoder(4, 3)])

    @pytest.mark.long
    def test_a_graph_that_does_not_know_the_size_refuses_others_when_it_runs(self, captioner):
        import tensorflow as tf

        spec = [tf.TensorSpec([None, None, None, 2])]
        run = tf.function(lambda x: captioner.encode(source_of(captioner).read(x).ids)[0].feed, input_signature=spec)
        given = pictures(4, 6, 2)
        np.testing.assert_allclose(run(given), captioner.encode(given)[0].feed, atol=1e-6)
        for shape in ((5, 6, 2), (6, 4, 2)):  # of which the second has as many values
            with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[3,\d,\d,2\] .* expected shape \[\?,4,6,2\]"):
                run(pictures(*shape))

    def test_datasets_of_another_shape_are_refused(self, captioner):
        import tensorflow as tf

        batches = tf.data.Dataset.from_tensors({"source": pictures(6, 4, 2), **TARGETS})
        for method in (captioner.fit, captioner.evaluate, captioner.predict):
            with pytest.raises(ValueError, match=r"source has shape \(3, 6, 4, 2\), but .* shape \(4, 6, 2\) for each"):
                method(batches, verbose=0)


@pytest.mark.long
def test_log_probabilities_and_ensembles(captioner):
    given = pictures(4, 6, 2)
    beam = kseq.decoding.BeamSearch(beam_width=3, top_paths=3, coverage_penalty=0.0)
    decoded = captioner.decode(given, strategy=beam, max_length=4)
    found = kseq.sequence_log_probability(captioner, (given,), (decoded.tokens, decoded.lengths))
    np.testing.assert_allclose(found, decoded.scores, rtol=1e-4)
    both = kseq.models.Ensemble([captioner, captioner])
    together = both.decode(given, strategy=beam, max_length=4)
    np.testing.assert_array_equal(together.tokens, decoded.tokens)
    np.testing.assert_allclose(together.scores, decoded.scores, rtol=1e-4)
    other = Seq2Seq(VectorEncoder(4, 3), kseq.models.Decoder(TOKENS, 4, kseq.cells.GRUCell(3)))
    with pytest.raises(ValueError, match=r"source_shape, but model 0 has .*\(4, 6, 2\).* and model 1 has .*\(4,\)"):
        kseq.models.Ensemble([captioner, other])


@pytest.mark.long
@pytest.mark.parametrize(
    "objectives",
    [
        {"ctc": kseq.training.JointCTC()},
        {"guided_alignment": kseq.training.GuidedAlignment()},
        {"minimum_risk": kseq.training.MinimumRisk(max_length=4)},
        {"sampling": kseq.training.ScheduledSampling("constant", probability=0.5)},
    ],
)
def test_objectives_take_part_in_training(objectives):
    model = drawn(Seq2Seq(GridEncoder((3, 4, 2), 5, convolutions=()), decoder(), **objectives))
    batch = {"source": pictures(3, 4, 2), **TARGETS}
    if "guided_alignment" in objectives:
        batch["alignments"] = np.ones((3, 3, 12), "float32")
    model.compile("adam", run_eagerly=True)
    assert np.isfinite(model.train_on_batch(batch)[0])
    if "guided_alignment" in objectives:
        with pytest.raises(ValueError, match=r"expected \(batch, target time - 1, encoder outputs\) = \(3, 3, 12\)"):
            model.train_on_batch({**batch, "alignments": np.ones((3, 3, 3), "float32")})
    if "ctc" in objectives:
        short = drawn(Seq2Seq(VectorEncoder(2, 3), decoder(), **objectives))
        with pytest.raises(ValueError, match="Row 0: 1 outputs, 2 tokens between begin and end"):
            short.fit({"source": pictures(2), **TARGETS})
