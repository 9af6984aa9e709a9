"""Log-mel energies in NumPy, window by window, from the definition of the Fourier transform."""

import numpy as np


def log_mel(samples, *, sample_rate, bands, window, hop, fft_length, low_hz, high_hz, floor):
    """Return the energies `(ceil(count / hop), bands)` of samples `(count,)`."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    frequencies = np.arange(fft_length // 2 + 1) * sample_rate / fft_length
    rows = []
    for centre in range(0, len(samples), hop):
        energies = np.zeros(len(frequencies))
        for k, frequency in enumerate(frequencies):
            total = 0j
            for n in range(window):
                place = centre - window // 2 + n
                if 0 <= place < len(samples):
                    total += hann[n] * samples[place] * np.exp(-2j * np.pi * frequency / sample_rate * n)
            energies[k] = abs(total) ** 2
        rows.append(
            [np.log(max(floor, energy)) for energy in _mel_bands(energies, frequencies, bands, low_hz, high_hz)]
        )
    return np.array(rows)


def _mel_bands(energies, frequencies, bands, low_hz, high_hz):
    edges = np.linspace(_mel(low_hz), _mel(high_hz), bands + 2)
    sums = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        total = 0.0
        for energy, frequency in zip(energies[1:], frequencies[1:], strict=True):
            place = _mel(frequency)
            if low < place <= middle:
                total += energy * (place - low) / (middle - low)
            elif middle < place < high:
                total += energy * (high - place) / (high - middle)
        sums.append(total)
    return sums


def _mel(hertz):
    return 2595 * np.log10(1 + hertz / 700)
