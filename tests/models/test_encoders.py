"""Tests of encoders beyond their contract: values by hand, and errors."""

import keras
import numpy as np
import pytest

import kseq
from kseq.models import ConvolutionalEncoder, ParallelEncoder
from tests.reference.convolution import convolved

IDS, TOKENS, LENGTHS = 9, np.array([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0]], "int32"), np.array([5, 2], "int32")


@pytest.fixture
def hub():
    return pytest.importorskip("keras_hub", reason='needs keras-hub: pip install "kseq[hub]"', exc_type=ImportError)


def _characters(size=IDS):
    return kseq.models.CharacterEncoder(size, 3, kseq.cells.GRUCell(2))


class TestConvolutionalEncoder:
    @pytest.mark.parametrize("residual", [False, True])
    def test_equals_the_equations(self, residual):
        encoder = ConvolutionalEncoder(IDS, 4, 2, kernel_sizes=(1, 2, 3), num_layers=2, residual=residual)
        encoder.build()
        random = np.random.default_rng(0)
        embeddings, *rest = [random.normal(size=weight.shape).astype("float32") for weight in encoder.get_weights()]
        encoder.set_weights([embeddings, *rest])
        kernels = list(zip(rest[::2], rest[1::2], strict=True))
        encoded = encoder(TOKENS, LENGTHS)
        for row, length in enumerate(LENGTHS):
            first = convolved(embeddings[TOKENS[row, :length]], kernels[:3])
            expected = convolved(first, kernels[3:]) + residual * first
            np.testing.assert_allclose(encoded.values[row, :length], expected, rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(encoded.states[0][row], expected.mean(axis=0), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"filters": 0}, "filters=0"),
            ({"num_layers": 0}, "num_layers=0"),
            ({"kernel_sizes": ()}, r"kernel_sizes=\(\)"),
            ({"kernel_sizes": (3, 0)}, r"kernel_sizes=\(3, 0\)"),
            ({"dropout": 2.0}, "dropout=2.0"),
            ({"residual": "yes"}, "residual='yes'"),
            ({"word_dropout": -1.0}, "word_dropout=-1.0"),
            ({"unk_id": IDS}, f"unk_id={IDS}"),
        ],
    )
    def test_refuses_wrong_options(self, options, error):
        with pytest.raises(ValueError, match=error):
            ConvolutionalEncoder(IDS, 4, **{"filters": 3, **options})

    def test_drops_words_without_characters(self):
        encoder = ConvolutionalEncoder(IDS, 4, 3, word_dropout=1.0, unk_id=2)
        all_unknown = encoder(np.full_like(TOKENS, 2), LENGTHS).values
        np.testing.assert_allclose(encoder(TOKENS, LENGTHS, training=True).values, all_unknown, atol=1e-6)


def test_characters_are_given_to_the_encoders_that_read_them_alone():
    spelt, counts = np.ones((2, 5, 3), "int32"), np.full((2, 5), 3, "int32")
    with pytest.raises(ValueError, match=r"ConvolutionalEncoder reads the characters .* missing"):
        ConvolutionalEncoder(IDS, 4, 3, characters=_characters())(TOKENS, LENGTHS)
    with pytest.raises(ValueError, match="Encoder got characters of words, but has no CharacterEncoder"):
        kseq.models.Encoder(IDS, 4, kseq.cells.GRUCell(3))(TOKENS, LENGTHS, spelt, counts)


class TestParallelEncoder:
    def test_concatenates_the_values(self):
        parts = [ConvolutionalEncoder(IDS, 4, 3), kseq.models.Encoder(IDS, 5, kseq.cells.LSTMCell(2))]
        encoded = ParallelEncoder(parts)(TOKENS, LENGTHS)
        values = [part(TOKENS, LENGTHS) for part in parts]
        np.testing.assert_array_equal(encoded.values, np.concatenate([each.values for each in values], axis=-1))
        assert len(encoded.states) == 1 + 4

    def test_refuses_encoders_that_do_not_fit_each_other(self):
        with pytest.raises(ValueError, match="at least one encoder"):
            ParallelEncoder([])
        with pytest.raises(ValueError, match=r"vocabulary_size \[9, 8\]"):
            ParallelEncoder([ConvolutionalEncoder(9, 4, 3), ConvolutionalEncoder(8, 4, 3)])
        with pytest.raises(ValueError, match=r"characters.vocabulary_size \[9, 7\]"):
            ParallelEncoder([ConvolutionalEncoder(9, 4, 3, characters=_characters(size)) for size in (9, 7)])


def test_seq2seq_refuses_an_encoder_of_characters():
    decoder = kseq.models.Decoder(IDS, 4, kseq.cells.GRUCell(3))
    encoder = ConvolutionalEncoder(IDS, 4, 3, characters=_characters())
    with pytest.raises(ValueError, match="a ConvolutionalEncoder, reads the characters of words as well"):
        kseq.models.Seq2Seq(encoder, decoder)


def test_a_classifier_supervises_no_steps_of_a_convolution():
    with pytest.raises(ValueError, match="this ConvolutionalEncoder has read more of the row"):
        kseq.models.SequenceClassifier(ConvolutionalEncoder(IDS, 4, 3), 2, step_weights="linear")


def test_a_batch_of_no_rows_has_no_values():
    encoder = ConvolutionalEncoder(IDS, 4, 3)
    assert encoder(TOKENS[:0], LENGTHS[:0]).values.shape == (0, 5, 9)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        rows = tf.TensorSpec((None, 5), "int32"), tf.TensorSpec((None,), "int32")
        run = tf.function(lambda tokens, lengths: encoder(tokens, lengths).values, input_signature=rows)
        assert run(TOKENS[:0], LENGTHS[:0]).shape == (0, 5, 9)


class TestPyramidalEncoder:
    def test_reads_pairs_of_the_outputs_of_the_layer_below(self):
        encoder = kseq.models.PyramidalEncoder(IDS, 4, kseq.cells.GRUCell(2))
        encoded = encoder(TOKENS, LENGTHS)
        below, above = encoder.layers
        outputs = below(encoder.embedding(TOKENS[:1]))[0]  # (1, 5, 4)
        pairs = np.concatenate([np.asarray(outputs), np.zeros((1, 1, 4))], axis=1).reshape(1, 3, 8)
        expected, *states = above(pairs.astype("float32"))
        np.testing.assert_allclose(encoded.values[:1], expected, atol=1e-6)
        np.testing.assert_allclose([each[0] for each in encoded.states], [each[0] for each in states], atol=1e-6)
        np.testing.assert_array_equal(encoded.mask, [[True, True, True], [True, False, False]])

    def test_a_tagger_refuses_it(self):
        with pytest.raises(ValueError, match="a PyramidalEncoder, has values for every 2 tokens"):
            kseq.models.Tagger(kseq.models.PyramidalEncoder(IDS, 4, kseq.cells.GRUCell(2)), 3)

    @pytest.mark.long
    def test_decodes_with_a_coverage_penalty_and_exports_no_alignments(self, tmp_path):
        encoder = kseq.models.PyramidalEncoder(IDS, 4, kseq.cells.GRUCell(2))
        model = kseq.models.Seq2Seq(encoder, kseq.models.Decoder(IDS, 4, kseq.cells.GRUCell(2)))
        strategy = kseq.decoding.BeamSearch(beam_width=2, coverage_penalty=0.3)
        decoded = model.decode(TOKENS, LENGTHS, strategy=strategy, max_length=4)
        alone = model.decode(TOKENS[1:, :2], LENGTHS[1:], strategy=strategy, max_length=4)
        np.testing.assert_allclose(decoded.scores[1], alone.scores[0], rtol=1e-5)
        with pytest.raises(ValueError, match="one step for every 2 of them"):
            kseq.export_saved_model(model, tmp_path, alignments=True, buckets=(8,), verbose=False)


class TestBackboneEncoder:
    def test_equals_the_backbone(self, hub):
        sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 4, "intermediate_dim": 6, "max_sequence_length": 5}
        backbone = hub.models.BertBackbone(vocabulary_size=IDS, **sizes)
        mask = np.arange(5) < LENGTHS[:, None]
        inputs = {"token_ids": TOKENS, "padding_mask": mask.astype("int32"), "segment_ids": 0 * TOKENS}
        expected = np.asarray(backbone(inputs)["sequence_output"])
        encoder = kseq.models.BackboneEncoder(backbone)
        values = np.asarray(encoder(TOKENS, LENGTHS).values)
        np.testing.assert_allclose(values, np.where(mask[..., None], expected, 0), atol=1e-6)
        with pytest.raises(ValueError, match=r"6 tokens, .* max_sequence_length=5"):
            encoder(np.zeros((2, 6), "int32"), LENGTHS)
        with pytest.raises(ValueError, match="reads tokens and lengths alone"):
            encoder(TOKENS, LENGTHS, TOKENS[..., None], TOKENS)

    def test_refuses_other_models(self, hub):
        inputs = keras.Input((None,), name="sounds")
        with pytest.raises(ValueError, match=r"but got Dense without a dict of inputs"):
            kseq.models.BackboneEncoder(keras.layers.Dense(3))
        with pytest.raises(ValueError, match=r"but got Functional with the inputs \['sounds'\]"):
            kseq.models.BackboneEncoder(keras.Model({"sounds": inputs}, inputs))
