"""What front ends are given: signals of one channel in both shapes, and what they refuse."""

import keras
import numpy as np
import pytest

import kseq
from kseq.frontends import FrameConvolutions, FrameStacking, FrontEndChain, LogMelSpectrogram

SIGNAL = 0.1 * np.random.default_rng(0).normal(size=(2, 160, 1)).astype("float32")
LENGTHS = np.array([160, 90])


def mel():
    return LogMelSpectrogram(1000, bands=4, low_hz=30.0)


@pytest.mark.parametrize("make", [mel, lambda: FrontEndChain([mel(), FrameStacking(2)])], ids=["mel", "chain"])
def test_a_signal_needs_no_axis_for_its_channel(make):
    layer = make()
    np.testing.assert_array_equal(layer(SIGNAL[..., 0], LENGTHS), layer(SIGNAL, LENGTHS))
    assert layer.compute_output_shape((2, 160)) == layer.compute_output_shape((2, 160, 1))
    with pytest.raises(ValueError, match=r"2 channels. Mix its channels to one"):
        layer(np.repeat(SIGNAL, 2, axis=2), LENGTHS)


@pytest.mark.long
def test_a_recognizer_takes_both_shapes_and_no_stereo():
    model = kseq.models.CTCRecognizer(1, 5, kseq.layers.GRU(3, return_sequences=True), front_end=mel())
    flat, stereo = SIGNAL[..., 0], np.repeat(SIGNAL, 2, axis=2)
    np.testing.assert_array_equal(model.decode(flat, LENGTHS).tokens, model.decode(SIGNAL, LENGTHS).tokens)
    predicted = [model.predict({"features": x, "lengths": LENGTHS}, verbose=0) for x in (flat, SIGNAL)]
    np.testing.assert_array_equal(*predicted)
    for call in (
        lambda: model.decode(stereo, LENGTHS),
        lambda: model({"features": stereo, "lengths": LENGTHS}),
        lambda: model.predict({"features": stereo, "lengths": LENGTHS}, verbose=0),
    ):
        with pytest.raises(ValueError, match=r"shape \(2, 160, 2\).*\n?.*mix a signal's channels to one"):
            call()
    wide = kseq.models.CTCRecognizer(2, 5, kseq.layers.GRU(3, return_sequences=True), front_end=mel())
    with pytest.raises(ValueError, match="which is 2 channels"):
        wide.build()


def test_the_precision_of_a_chain_is_that_of_its_parts():
    for chain, expected in (
        (FrontEndChain([mel(), FrameConvolutions([3])], dtype="mixed_bfloat16"), ["mixed_bfloat16"] * 3),
        (FrontEndChain([mel(), FrameConvolutions([3], dtype="bfloat16")]), ["float32", "float32", "bfloat16"]),
    ):
        for each in (chain, FrontEndChain.from_config(chain.get_config())):
            assert [layer.dtype_policy.name for layer in (each, *each.front_ends)] == expected
        assert keras.backend.standardize_dtype(chain(SIGNAL, LENGTHS).dtype) == "bfloat16"
    built = FrameConvolutions([3])
    built.build((None, None, 4))
    with pytest.raises(ValueError, match="FrontEndChain computes in bfloat16, but the weights of"):
        FrontEndChain([mel(), built], dtype="bfloat16")


@pytest.mark.parametrize(
    "make", [lambda: FrameStacking(2), lambda: FrameConvolutions([3]), mel], ids=["stack", "conv", "mel"]
)
def test_says_what_is_wrong_with_an_input(make):
    layer, values = make(), SIGNAL
    with pytest.raises(ValueError, match=r"must be whole numbers .batch,., .* but are float"):
        layer(values, LENGTHS * 0.5)
    with pytest.raises(ValueError, match=r"must be whole numbers .batch,., .* of shape \(2, 1\)"):
        layer(values, LENGTHS[:, None])
    with pytest.raises(ValueError, match=r"but got shape \(160,\)"):
        layer(values[0, :, 0], LENGTHS)


def test_whole_samples_are_refused():
    with pytest.raises(ValueError, match=r"between -1 and 1, but got int16. Divide 16-bit samples by 32768"):
        mel()((SIGNAL * 32768).astype("int16"), LENGTHS)


def test_options_may_be_numbers_of_numpy():
    for layer in (
        FrameStacking(np.int64(2)),
        FrameConvolutions(np.array([3, 4]), kernel_size=np.int32(3), strides=np.int64(2), height_strides=np.int8(1)),
        LogMelSpectrogram(np.int64(1000), bands=np.int32(4), low_hz=np.float32(30), normalize=np.bool_(True)),
    ):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        np.testing.assert_array_equal(again.compute_output_shape((2, 160, 1)), layer.compute_output_shape((2, 160, 1)))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FrameStacking(2.5), ValueError, "count must be a whole number"),
        (lambda: FrameConvolutions([3.5]), ValueError, "filters must be a sequence of ids"),
        (lambda: FrameConvolutions([3], strides=1.5), ValueError, "strides must be a whole number"),
        (lambda: LogMelSpectrogram(np.nan), ValueError, "sample_rate must be a finite number"),
        (lambda: LogMelSpectrogram(1000, floor=np.inf), ValueError, "floor must be a finite number"),
        (lambda: FrontEndChain([keras.layers.Dense(3)]), TypeError, "but Dense has not"),
        (lambda: FrontEndChain([FrameStacking]), TypeError, "but FrameStacking has not"),
        (lambda: FrontEndChain(FrameStacking(2)), TypeError, r"got a FrameStacking alone. Write \[layer\]"),
    ],
)
def test_says_what_is_wrong_with_an_option(make, error, message):
    with pytest.raises(error, match=message):
        make()
