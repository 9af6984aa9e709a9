"""Speed perturbation of recordings."""

from typing import Any

import numpy as np

from kseq.numbers import real

TAPS = 32  # samples on each side of a new one that it is computed from


def perturb_speed(signal: Any, factor: float) -> np.ndarray:
    """Return a recording as if it were played faster or slower, by resampling; its pitch changes too.

    Ko et al. train a recogniser on each recording at the speeds 0.9, 1 and 1.1. The number of samples changes, and with
    it the lengths, so this is done to the data, not by a layer:

        factors = (0.9, 1.0, 1.1)
        rows = {
            "features": [kseq.training.perturb_speed(signal, factor) for factor in factors for signal in signals],
            "labels": labels * len(factors),
        }

    New samples are computed by a windowed sinc of the signal. Frequencies that a faster signal would have above half
    the sample rate are removed.

    Args:
        signal: Float `(samples,)`, or `(samples, channels)`.
        factor: Speed, above 0: 1.1 is faster, with fewer samples.

    Returns:
        float32 `(ceil(samples / factor),)` or `(ceil(samples / factor), channels)`.

    Raises:
        ValueError: If the signal has another shape, is no numbers between -1 and 1 such as 16-bit samples, or is not
            finite, or the factor is not above 0.

    Example:
        >>> kseq.training.perturb_speed(np.zeros(16000), 1.1).shape
        (14546,)

    Reference: T. Ko, V. Peddinti, D. Povey, S. Khudanpur, "Audio augmentation for speech recognition", 2015.
    """
    samples, factor = np.asarray(signal), real("factor", factor)
    if samples.ndim not in (1, 2) or samples.dtype.kind != "f":
        raise ValueError(
            f"The signal has dtype {samples.dtype} and shape {samples.shape}, but expected floats (samples,) or "
            '(samples, channels). Divide 16-bit samples by 32768: signal.astype("float32") / 32768.'
        )
    if not np.isfinite(samples).all():
        raise ValueError("The signal has a sample that is not finite. Repair the recording or drop it.")
    if factor <= 0:
        raise ValueError(f"factor={factor}, but a speed is above 0, such as 0.9 or 1.1.")
    if factor == 1.0 or not len(samples):
        return samples.astype("float32")
    cut = min(1.0, 1.0 / factor)  # share of the frequencies that stays
    reach = int(np.ceil(TAPS / cut))
    padded = np.pad(samples.astype("float64"), [(reach, reach + 1)] + [(0, 0)] * (samples.ndim - 1))
    places = np.arange(-(-len(samples) // factor)) * factor
    first = np.floor(places).astype(int)
    resampled = np.zeros((len(places), *samples.shape[1:]))
    for tap in range(-reach + 1, reach + 1):  # a loop over taps needs the memory of one signal
        distance = places - (first + tap)
        window = 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / reach, -1.0, 1.0))
        weight = cut * np.sinc(cut * distance) * window
        weight = weight if samples.ndim == 1 else weight[:, None]
        resampled += weight * padded[np.minimum(first + tap + reach, len(padded) - 1)]
    return resampled.astype("float32")
