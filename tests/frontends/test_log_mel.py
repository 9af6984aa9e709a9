"""Log mel energies: their values, and their independence of padding and other rows."""

import keras
import numpy as np
import pytest

import kseq
from kseq.frontends.log_mel import mel_triangles
from tests.reference.log_mel import log_mel
from tests.support import compiled, gradient

RATE, HOP, BANDS = 1000, 10, 6
LENGTHS = np.array([137, 41, 0, 140], "int32")


def make_layer(**options):
    return kseq.frontends.LogMelSpectrogram(RATE, bands=BANDS, window_s=0.025, hop_s=0.010, low_hz=30.0, **options)


@pytest.fixture(scope="module")
def samples():
    """Waveforms with NaN in the padding."""
    values = 0.3 * np.random.default_rng(0).normal(size=(4, 140, 1)).astype("float32")
    values[np.arange(140) >= LENGTHS[:, None]] = np.nan
    return values


@pytest.fixture(scope="module", params=[False, True], ids=["as it is", "normalized"])
def layer(request):
    return make_layer(normalize=request.param)


def reference(row, *, window=25, hop=HOP):
    return log_mel(
        row,
        sample_rate=RATE,
        bands=BANDS,
        window=window,
        hop=hop,
        fft_length=32,
        low_hz=30.0,
        high_hz=500.0,
        floor=1e-8,
    )


@pytest.mark.long_on_jax
def test_it_equals_the_reference(samples):
    """The reference is an explicit sum over each row; one row has a silent part."""
    samples = samples.copy()
    samples[3, 40:90] = 0.0
    outputs = np.asarray(make_layer()(samples, LENGTHS))
    assert outputs.shape == (4, 14, BANDS)
    for row, length in enumerate(LENGTHS):
        frames = -(-int(length) // HOP)
        if length:
            np.testing.assert_allclose(outputs[row, :frames], reference(samples[row, :length, 0]), atol=1e-4)
        assert np.all(outputs[row, frames:] == 0)
    assert np.any(outputs[3] == np.log(np.float32(1e-8)))


def test_windows_need_not_overlap():
    """The hop is longer than the window, which has an even number of samples."""
    samples = np.random.default_rng(3).normal(size=(1, 145, 1)).astype("float32")
    layer = kseq.frontends.LogMelSpectrogram(RATE, bands=BANDS, window_s=0.024, hop_s=0.050, low_hz=30.0)
    for length in (145, 101, 100, 1):
        expected = reference(samples[0, :length, 0], window=24, hop=50)
        np.testing.assert_allclose(layer(samples[:, :length], np.array([length]))[0], expected, atol=1e-4)


def test_normalized_bands_have_mean_0_and_variance_1(samples):
    outputs = np.asarray(make_layer(normalize=True)(samples, LENGTHS))
    expected = reference(samples[1, :41, 0])
    expected = (expected - expected.mean(axis=0)) / np.sqrt(expected.var(axis=0) + 1e-3)
    np.testing.assert_allclose(outputs[1, :5], expected, atol=1e-4)
    np.testing.assert_allclose(outputs[0].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(outputs[0].var(axis=0), 1, atol=5e-3)
    assert np.all(outputs[1, 5:] == 0)
    silence = np.asarray(make_layer(normalize=True)(np.zeros((1, 50, 1)), np.array([50])))
    np.testing.assert_allclose(silence, 0, atol=1e-3)


def test_a_row_alone_equals_the_row_in_its_batch_compiled_or_not(layer, samples):
    whole = np.asarray(layer(samples, LENGTHS))
    wide = np.pad(samples, [(0, 0), (0, 33), (0, 0)], constant_values=np.nan)
    run = compiled(lambda values, lengths: layer(values, lengths))
    np.testing.assert_allclose(np.asarray(run(wide, LENGTHS))[:, :14], whole, atol=1e-4)
    for row in (0, 1):
        alone = layer(samples[row : row + 1, : LENGTHS[row]], LENGTHS[row : row + 1])
        assert alone.shape[1] == layer.frames(int(LENGTHS[row]))
        np.testing.assert_allclose(alone[0], whole[row, : alone.shape[1]], atol=1e-4)


def test_keras_own_spectrogram_depends_on_the_batch():
    """This is the reason for a layer of our own."""
    theirs = keras.layers.MelSpectrogram(
        fft_length=32, sequence_stride=HOP, sequence_length=25, sampling_rate=RATE, num_mel_bins=BANDS, min_freq=30.0
    )
    values = np.random.default_rng(1).normal(size=(1, 100)).astype("float32")
    alone, loud = np.asarray(theirs(values)), np.concatenate([1e-5 * values, 1e5 * values])
    padded = np.asarray(theirs(np.pad(values, [(0, 0), (0, 50)])))[:, :, : alone.shape[2]]
    assert np.abs(padded - alone)[:, :, -1].max() > 1  # in dB, at the end of the row
    assert np.abs(np.asarray(theirs(loud))[0] - np.asarray(theirs(loud[:1]))[0]).max() > 1


def test_a_tone_is_loudest_in_its_band_at_its_time():
    layer = make_layer()
    middles = layer.triangles.argmax(axis=0) * RATE / layer.fft_length
    for band, hertz in enumerate(middles):
        time = np.arange(200)
        tone = np.where((time > 80) & (time < 120), np.sin(2 * np.pi * hertz * time / RATE), 0.0)
        outputs = np.asarray(layer(tone[None, :, None], np.array([200])))[0]
        assert outputs.argmax(axis=1)[10] == band
        assert outputs[:, band].argmax() in (9, 10, 11)


def test_triangles_are_those_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    for rate, size, bands, low, high in ((8000, 256, 40, 20.0, 4000.0), (16000, 512, 80, 20.0, 7600.0)):
        theirs = tf.signal.linear_to_mel_weight_matrix(bands, size // 2 + 1, rate, low, high).numpy()
        np.testing.assert_allclose(mel_triangles(rate, size, bands, low, high), theirs, atol=1e-4)  # float32


def test_gradients_reach_the_samples_and_not_the_padding(layer, samples):
    weights = np.random.default_rng(2).normal(size=(4, 14, BANDS)).astype("float32")

    def total(values):
        return keras.ops.sum(layer(values, LENGTHS) * weights)

    (got,) = gradient(total, samples)
    real = np.arange(140) < LENGTHS[:, None]
    assert np.all(got[~real] == 0)
    assert np.all(np.isfinite(got))
    for row, place in ((0, 60), (1, 30)):
        moved = []
        for step in (1e-3, -1e-3):
            other = samples.copy()
            other[row, place] += step
            moved.append(float(total(other)))
        np.testing.assert_allclose(got[row, place, 0], (moved[0] - moved[1]) / 2e-3, rtol=0.02, atol=0.02)


def test_mixed_precision_keeps_the_samples_precise(samples):
    """A recognizer in bfloat16 passes the waveform to the spectrogram in float32."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = make_layer()
        model = kseq.models.CTCRecognizer(
            1, 4, kseq.layers.GRU(3, return_sequences=True), front_end=[layer, kseq.frontends.FrameStacking(2)]
        )
        model.build()
    finally:
        keras.config.set_dtype_policy("float32")
    offset = np.float32(64.0)  # the 8 bits of bfloat16 could not represent a signal on this offset
    outputs = layer(samples + offset, LENGTHS)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    precise = np.asarray(make_layer()(samples + offset, LENGTHS))
    np.testing.assert_allclose(np.asarray(keras.ops.cast(outputs, "float32")), precise, rtol=0.01)
    seen = []
    layer.call = lambda values, lengths: seen.append(values.dtype) or type(layer).call(layer, values, lengths)
    logits = model({"features": samples, "lengths": LENGTHS})
    assert seen == ["float32"]
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


def test_empty_batches_and_rows(layer):
    assert layer(np.zeros((0, 40, 1)), np.zeros(0, "int32")).shape == (0, 4, BANDS)
    assert layer(np.zeros((2, 0, 1)), np.zeros(2, "int32")).shape == (2, 0, BANDS)
    assert layer.compute_output_shape((None, None, 1)) == (None, None, BANDS)


def test_a_chain_counts_its_frames_and_is_saved(samples):
    chain = kseq.frontends.FrontEndChain([make_layer(normalize=True), kseq.frontends.FrameStacking(3)])
    outputs = np.asarray(chain(samples, LENGTHS))
    assert outputs.shape == chain.compute_output_shape(samples.shape) == (4, 5, 3 * BANDS)
    assert chain.subsampling == 30
    assert list(chain.frames(LENGTHS)) == [5, 2, 0, 5]
    assert np.all(outputs[1, 2:] == 0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(chain))
    np.testing.assert_array_equal(again(samples, LENGTHS), outputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": 0}, "bands=0"),
        ({"hop_s": 0.0}, "hop_s=0.0"),
        ({"floor": 0.0}, r"floor=0\.0"),
        ({"low_hz": 600.0}, r"low_hz=600\.0, .* half the sample rate, 500 Hz"),
        ({"high_hz": 501.0}, r"high_hz=501\.0"),
        ({"bands": 60}, r"of bands=60 contains none of the transform's frequencies, which are 31\.25 Hz apart"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kseq.frontends.LogMelSpectrogram(RATE, **options)
