"""The log mel spectrogram of a waveform."""

from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.frontends.checks import check_input, check_signal_shape
from kseq.masking import mask_from_lengths, zero_padding
from kseq.numbers import flag, real, whole
from kseq.short_help import ShortHelp


@keras.saving.register_keras_serializable(package="kseq")
class LogMelSpectrogram(keras.layers.Layer, metaclass=ShortHelp):
    """The log of the energy in each mel band, for a window around every `hop` samples of a waveform.

        X_t(f) = sum_n hann(n) x_{hop t + n - window // 2} exp(-2 pi i f n / N),    N >= window a power of two
        y_t(b) = log max(floor, sum_f triangle_b(f) |X_t(f)|^2)

    A front end without weights: its input frames are samples, its output frames are windows, and window `t` is centred
    at sample `hop * t`. A row's output depends neither on the other rows nor on the batch's width: there are zeros
    before the row's first sample and after its last, whatever the padding holds. (Keras's `MelSpectrogram` reflects the
    signal at the batch's width, and clips values far below the batch's maximum.)

    A triangle is 1 at its centre and 0 at the centres of its neighbours. The centres are evenly spaced on the mel
    scale, `mel(f) = 2595 log10(1 + f / 700)`. Spectra are computed in float32, in mixed precision too.

    Args:
        sample_rate: Samples per second.
        bands: Number of mel bands.
        window_s: Length of a window in seconds. The Fourier transform has the next power of two of samples.
        hop_s: Seconds from one window to the next, rounded to samples.
        low_hz: Lower edge of the first band.
        high_hz: Upper edge of the last band; None is half the sample rate.
        floor: Lower bound of the energy, for samples between -1 and 1. The default is about the resolution of 16 bits.
        normalize: Whether to give each band mean 0 and variance 1 over the real windows of a row. This reduces the
            influence of loudness and microphone, but needs the whole row.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        values: Float `(batch, samples)` or `(batch, samples, 1)`, between -1 and 1; one channel.
        lengths: int `(batch,)`, the number of real samples in each row.

    Returns:
        Float `(batch, ceil(samples / hop), bands)`, zero after the last real window; `frames(lengths)` of
        them are real.

    Raises:
        ValueError: If a number is not positive, the frequencies do not increase or exceed half the sample rate, or a
            band is so narrow that it contains no frequency of the transform; when called, if the signal has several
            channels or whole numbers as samples, or the shape or dtype of the lengths is wrong.

    Example:
        >>> layer = kseq.frontends.LogMelSpectrogram(8000)
        >>> layer(np.zeros((2, 4000, 1), "float32"), np.array([4000, 800])).shape
        (2, 50, 40)

    Reference: S. Davis, P. Mermelstein, "Comparison of parametric representations for monosyllabic word recognition in
    continuously spoken sentences", 1980. The scale: S. Stevens, J. Volkmann, E. Newman, "A scale for the measurement of
    the psychological magnitude pitch", 1937, by the formula of S. Young et al., "The HTK book", 2006.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        bands: int = 40,
        window_s: float = 0.025,
        hop_s: float = 0.010,
        low_hz: float = 20.0,
        high_hz: float | None = None,
        floor: float = 1e-8,
        normalize: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs, autocast=False)  # half precision is too coarse for samples
        bands, normalize = whole("bands", bands), flag("normalize", normalize)
        rate = real("sample_rate", sample_rate)
        rate = int(rate) if rate.is_integer() else rate
        window_s, hop_s, low_hz = real("window_s", window_s), real("hop_s", hop_s), real("low_hz", low_hz)
        high_hz, floor = None if high_hz is None else real("high_hz", high_hz), real("floor", floor)
        self.sample_rate, self.bands, self.window_s, self.hop_s = rate, bands, window_s, hop_s
        self.low_hz, self.high_hz, self.floor, self.normalize = low_hz, high_hz, floor, normalize
        self.window, self.hop = round(rate * window_s), round(rate * hop_s)
        if min(bands, self.window, self.hop) < 1 or not floor > 0:
            raise ValueError(
                f"sample_rate={rate}, bands={bands}, window_s={window_s}, hop_s={hop_s}, floor={floor}: "
                "expected at least 1 band, windows and hops of at least 1 sample, and a floor above 0."
            )
        self.fft_length = 1 << max(self.window - 1, 1).bit_length()
        # Named windows differ between backends if the number of samples is odd.
        self.hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        self.triangles = mel_triangles(rate, self.fft_length, bands, low_hz, high_hz)

    @property
    def subsampling(self) -> int:
        """Samples per window: window `t` is centred at sample `t * subsampling`."""
        return self.hop

    def frames(self, lengths: Any) -> Any:
        """Return the number of windows for `lengths` samples, an int or an int tensor."""
        return (lengths + self.hop - 1) // self.hop

    def call(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return the log energies."""
        check_signal_shape(self, values.shape)
        values = values if len(values.shape) == 3 else values[..., None]
        check_input(self, values, lengths)
        if "int" in keras.backend.standardize_dtype(values.dtype):
            raise ValueError(
                f"{self.name} takes samples between -1 and 1, but got {keras.backend.standardize_dtype(values.dtype)}. "
                'Divide 16-bit samples by 32768: signal.astype("float32") / 32768.'
            )
        if values.shape[0] == 0:  # the Fourier transform refuses an empty batch
            return ops.zeros(self.compute_output_shape(values.shape), dtype=self.compute_dtype)
        time = ops.shape(values)[1]
        frames = self.frames(time)
        precision = keras.backend.result_type(self.compute_dtype, "float32")
        samples = zero_padding(ops.cast(values, precision), mask_from_lengths(lengths, time))[..., 0]
        before = self.window // 2 + (self.fft_length - self.window) // 2  # the window is centred in the transform
        samples = ops.pad(samples, [(0, 0), (before, self.fft_length - before)])  # enough for 1 + time // hop windows
        hann = ops.cast(self.hann, precision)
        real, imaginary = ops.stft(samples, self.window, self.hop, self.fft_length, window=hann, center=False)
        triangles = ops.cast(self.triangles, precision)
        energies = ops.matmul(ops.square(real) + ops.square(imaginary), triangles)  # (batch, windows, bands)
        loudness = ops.log(ops.maximum(energies, self.floor))[:, :frames]
        mask = mask_from_lengths(self.frames(ops.cast(lengths, "int32")), frames)
        if self.normalize:
            loudness = _normalize(loudness, mask)
        return ops.cast(zero_padding(loudness, mask), self.compute_dtype)

    def compute_output_shape(self, values_shape: tuple, lengths_shape: Any = None) -> tuple:
        """Return the shape of what `call` returns."""
        check_signal_shape(self, values_shape)
        batch, time = values_shape[:2]
        return batch, None if time is None else self.frames(time), self.bands

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("sample_rate", "bands", "window_s", "hop_s", "low_hz", "high_hz", "floor", "normalize")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def mel_triangles(
    sample_rate: float, fft_length: int, bands: int, low_hz: float, high_hz: float | None = None
) -> np.ndarray:
    """Return the weight of each frequency of a Fourier transform in each mel band.

    Args:
        sample_rate: Samples per second.
        fft_length: Samples in a transform; its frequencies are `k * sample_rate / fft_length`.
        bands: Number of bands.
        low_hz: Lower edge of the first band.
        high_hz: Upper edge of the last band; None is half the sample rate.

    Returns:
        float64 `(fft_length // 2 + 1, bands)`, between 0 and 1.

    Raises:
        ValueError: As in `LogMelSpectrogram`.
    """
    high_hz = sample_rate / 2 if high_hz is None else high_hz
    if not 0 <= low_hz < high_hz <= sample_rate / 2:
        raise ValueError(
            f"low_hz={low_hz}, high_hz={high_hz}, but expected 0 <= low_hz < high_hz <= half the sample rate, "
            f"{sample_rate / 2:g} Hz."
        )
    mels = _mels(np.arange(fft_length // 2 + 1) * sample_rate / fft_length)[:, None]
    edges = np.linspace(_mels(low_hz), _mels(high_hz), bands + 2)
    spacing = edges[1] - edges[0]
    triangles = np.maximum(0.0, 1.0 - np.abs(mels - edges[1:-1]) / spacing)
    triangles[0] = 0.0  # a constant offset is inaudible
    if not np.all(triangles.max(axis=0) > 0):
        empty = int(np.argmax(triangles.max(axis=0) == 0))
        raise ValueError(
            f"Band {empty} of bands={bands} contains none of the transform's frequencies, which are "
            f"{sample_rate / fft_length:g} Hz apart. Use fewer bands, or longer windows."
        )
    return triangles


def _mels(hertz: Any) -> Any:
    return 2595.0 * np.log10(1.0 + np.asarray(hertz) / 700.0)


def _normalize(values: Tensor, mask: Tensor) -> Tensor:
    """Return `values` `(batch, time, bands)` with mean 0 and variance 1 in each band over a row's real frames."""
    count = ops.maximum(ops.sum(ops.cast(mask, values.dtype), axis=1), 1.0)[:, None, None]
    values = zero_padding(values, mask)
    values = zero_padding(values - ops.sum(values, axis=1, keepdims=True) / count, mask)
    variance = ops.sum(ops.square(values), axis=1, keepdims=True) / count
    return values / ops.sqrt(variance + 1e-3)  # silence stays silence
