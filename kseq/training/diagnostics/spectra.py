"""Eigenvalues and singular values of recurrent kernels."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from kseq.cells import Cell, CoupledLSTMCell
from kseq.cells.lstm import LSTMGates
from kseq.cells.wrapper import OuterCell


class KernelSpectrum(NamedTuple):
    """Spectrum of one gate's square or rectangular part of a recurrent kernel.

    Attributes:
        eigenvalues: Complex `(units,)`, the largest magnitude first; empty if the part is not square.
        singular_values: Float `(units,)`, the largest first.
    """

    eigenvalues: np.ndarray
    singular_values: np.ndarray

    @property
    def spectral_radius(self) -> float:
        """The largest magnitude of an eigenvalue; NaN if there are no eigenvalues."""
        return float(np.abs(self.eigenvalues).max()) if self.eigenvalues.size else float("nan")

    @property
    def spectral_norm(self) -> float:
        """The largest singular value."""
        return float(self.singular_values.max())


def recurrent_spectra(layer: keras.layers.Layer) -> dict[str, KernelSpectrum]:
    """Return the eigenvalues and singular values of all recurrent kernels in a layer or a model.

    They are those of the map of the hidden state alone. In a `SimpleRNN` without an activation the spectral radius
    decides whether gradients vanish (below 1) or explode (above 1). In other cells the activations and gates matter
    too: see `state_jacobian_norms`.

    Args:
        layer: A built model, recurrent layer or cell, of kseq or of Keras. A cell of another kind is included if it has
            a matrix named `recurrent_kernel`, or is a `kseq.cells.Cell` whose `recurrent_weights` start with one.
            Convolutional kernels, and cells without a recurrent kernel such as `MinGRUCell`, are left out.

    Returns:
        A spectrum for each gate of each kernel. The key is the cell's path, followed by the gate's name if there are
        several: "lstm/lstm_cell/forget". Gates of cells of other kinds are numbered from 1; a cell may name them by an
        attribute `gate_names`, in the order of the kernel's columns.

    Raises:
        ValueError: If there is no recurrent kernel.

    Example:
        >>> layer = kseq.layers.SimpleRNN(3, recurrent_initializer="identity")
        >>> layer.build((None, None, 2))
        >>> [spectrum.spectral_radius for spectrum in kseq.training.recurrent_spectra(layer).values()]
        [1.0]

    Reference: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent neural networks", 2013.
    """
    spectra: dict[str, KernelSpectrum] = {}
    for cell in layer._flatten_layers():
        kernel = recurrent_kernel(cell)
        if kernel is None:
            continue
        names = kernel_gates(cell, *kernel.shape)
        for name, part in zip(names, np.split(kernel, len(names), axis=1), strict=True):
            path = "/".join(filter(None, (cell.path, name)))
            taken = sum(each == path or each.startswith(f"{path} (") for each in spectra)
            spectra[f"{path} ({taken + 1})" if taken else path] = _spectrum(part)
    if not spectra:
        raise ValueError(
            f"{layer.name} has no recurrent kernel that is a matrix. Give a built model, recurrent layer or cell, with "
            "a weight named recurrent_kernel."
        )
    return spectra


def recurrent_kernel(cell: Any) -> np.ndarray | None:
    """Return the kernel that multiplies a cell's hidden state, float64 `(hidden, columns)`, or None without one."""
    kernel = getattr(cell, "recurrent_kernel", None)
    overrides = isinstance(cell, Cell) and type(cell).recurrent_weights is not Cell.recurrent_weights
    if kernel is None and overrides and not isinstance(cell, OuterCell):
        kernel = next(iter(tree.flatten(cell.recurrent_weights)), None)
    if kernel is None or len(kernel.shape) != 2:
        return None
    return np.asarray(ops.convert_to_numpy(ops.cast(kernel, "float32")), "float64")


def kernel_gates(cell: Any, rows: int, columns: int) -> tuple[str, ...]:
    """Return the names of the gates in a kernel's columns; one empty name if there is a single part."""
    names = getattr(cell, "gate_names", None)
    if names is not None:
        names = tuple(names)
    elif isinstance(cell, CoupledLSTMCell):
        names = ("forget", "candidate", "output")
    elif isinstance(cell, LSTMGates | keras.layers.LSTMCell):
        names = ("input", "forget", "candidate", "output")
    elif isinstance(cell, keras.layers.GRUCell):
        names = ("update", "reset", "candidate")
    else:
        parts = columns // rows if columns % rows == 0 else 1
        names = ("",) if parts == 1 else tuple(f"gate {number}" for number in range(1, parts + 1))
    if not names or columns % len(names):
        raise ValueError(
            f"{type(cell).__name__} has {len(names)} gate_names, but its recurrent kernel has {columns} columns, which "
            "is no multiple of it. Name each gate of the kernel once."
        )
    return names


def _spectrum(part: np.ndarray) -> KernelSpectrum:
    if not np.isfinite(part).all():
        return KernelSpectrum(np.full(len(part), np.nan, "complex128"), np.full(min(part.shape), np.nan))
    square = part.shape[0] == part.shape[1]
    eigenvalues = np.linalg.eigvals(part).astype("complex128") if square else np.zeros(0, "complex128")
    order = np.argsort(-np.abs(eigenvalues), kind="stable")
    return KernelSpectrum(eigenvalues[order], np.linalg.svd(part, compute_uv=False))
