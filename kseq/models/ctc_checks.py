"""Checks of arrays of features and labels for CTC."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor


def as_frames(features: Tensor, lengths: Tensor, feature_size: int) -> Tensor:
    """Return features as `(batch, time, feature_size)`; a signal of one channel may come as `(batch, time)`.

    Raises:
        ValueError: If their shape is neither.
    """
    if feature_size == 1 and _rank(features) is None:  # TensorFlow has one function for signals of both shapes
        return ops.reshape(features, (ops.shape(lengths)[0], -1, 1))
    check_frame_shape(features.shape, feature_size)
    return features if len(features.shape) == 3 else features[..., None]


def check_frame_shape(shape: Sequence, feature_size: int) -> None:
    """Raise ValueError unless features are `(batch, time, feature_size)`, or `(batch, time)` if that is 1."""
    if len(shape) == 3 and shape[2] in (None, feature_size):
        return
    if feature_size != 1:
        raise ValueError(
            f"features must be (batch, time, {feature_size}), but have shape {tuple(shape)}. The model was made with "
            f"feature_size={feature_size}."
        )
    if len(shape) != 2:
        raise ValueError(
            f"features must be (batch, time) or (batch, time, 1), but have shape {tuple(shape)}. The model was made "
            "with feature_size=1: mix a signal's channels to one, such as by signal.mean(axis=-1, keepdims=True)."
        )


def _rank(tensor: Tensor) -> int | None:
    try:
        return len(tensor.shape)
    except ValueError:
        return None


def check_features(features: Any, lengths: Any, feature_size: int) -> None:
    """Check arrays of features and their lengths.

    Args:
        features: Float or int `(batch, time, feature_size)`, or `(batch, time)` of size 1; the padding is not checked.
        lengths: int `(batch,)`.
        feature_size: Number of values in a frame.

    Raises:
        ValueError: If a shape or dtype is wrong, there is no row, a length is not between 0 and `time`, or a real frame
            contains NaN or infinity.
    """
    features, lengths = np.asarray(features), np.asarray(lengths)
    check_frame_shape(features.shape, feature_size)
    features = features if features.ndim == 3 else features[..., None]
    if lengths.shape != features.shape[:1]:
        raise ValueError(
            f"features must be (batch, time, {feature_size}) and lengths (batch,), but their shapes are "
            f"{features.shape} and {lengths.shape}. The model was made with feature_size={feature_size}."
        )
    if not len(features):
        raise ValueError(f"The batch is empty: features has shape {features.shape}. Give at least one row.")
    _check_lengths("lengths", lengths, "features", features.shape[1])
    real = np.arange(features.shape[1]) < lengths[:, None]
    odd = real & ~np.isfinite(features.sum(axis=2, dtype=np.float64))
    if odd.any():
        row, frame = np.argwhere(odd)[0]
        raise ValueError(
            f"features[{row}, {frame}] has NaN or infinity, but is a real frame: lengths[{row}] = {lengths[row]}. "
            "Repair the frame or drop the row."
        )


def check_labels(inputs: Mapping[str, Any], num_classes: int, blank_index: int) -> None:
    """Check arrays of labels and their lengths.

    Args:
        inputs: A dict with int arrays `labels` `(batch, max_labels)` and `label_lengths` `(batch,)`, and `lengths`.
        num_classes: Number of classes, the blank included.
        blank_index: Class of the blank.

    Raises:
        ValueError: If an array is missing, a shape or dtype is wrong, a length does not fit, or a label is the blank or
            not a class.
    """
    if missing := [name for name in ("labels", "label_lengths") if name not in inputs]:
        raise ValueError(f"The inputs {sorted(inputs)} lack {missing}, which training and evaluation need.")
    labels, lengths = np.asarray(inputs["labels"]), np.asarray(inputs["label_lengths"])
    rows = np.shape(inputs["lengths"])
    if labels.ndim != 2 or lengths.shape != rows or labels.shape[:1] != rows:
        raise ValueError(
            f"labels must be (batch, max_labels) and label_lengths (batch,), with the {rows[0]} rows of features, but "
            f"their shapes are {labels.shape} and {lengths.shape}."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels have dtype {labels.dtype}, but they must be integers, the numbers of classes.")
    _check_lengths("label_lengths", lengths, "labels", labels.shape[1])
    real = np.arange(labels.shape[1]) < lengths[:, None]
    wrong = real & ((labels < 0) | (labels >= num_classes) | (labels == blank_index))
    if wrong.any():
        row, place = (int(axis) for axis in np.argwhere(wrong)[0])
        raise ValueError(
            f"labels[{row}, {place}] = {labels[row, place]}, but the model has classes 0 to {num_classes - 1}, and "
            f"{blank_index} is the blank, which no label may be. Shift the labels, or create the model with another "
            "num_classes or blank_index."
        )


def check_feasible(labels: Any, label_lengths: Any, frames: Any) -> None:
    """Raise ValueError if a row has too few frames for any alignment of its labels.

    Args:
        labels: int `(batch, max_labels)`.
        label_lengths: int `(batch,)`.
        frames: int `(batch,)`, the number of frames after the front end.
    """
    labels, label_lengths, frames = (np.asarray(array) for array in (labels, label_lengths, frames))
    pairs = np.arange(1, labels.shape[1]) < label_lengths[:, None]
    repeats = ((labels[:, 1:] == labels[:, :-1]) & pairs).sum(axis=1)
    short = np.flatnonzero(frames < label_lengths + repeats)
    if len(short):
        row = int(short[0])
        raise ValueError(
            f"CTC needs frames >= label_length + repeats. Row {row}: frames={frames[row]} after the front end, "
            f"label_length={label_lengths[row]}, repeats={repeats[row]}; {len(short)} such rows. Reduce the front "
            'end\'s strides, drop the rows, or compile with kseq.losses.CTC(infeasible="zero").'
        )


def _check_lengths(name: str, lengths: np.ndarray, of: str, limit: int) -> None:
    if not np.issubdtype(lengths.dtype, np.integer):
        raise ValueError(f"{name} have dtype {lengths.dtype}, but they must be integers.")
    wrong = np.flatnonzero((lengths < 0) | (lengths > limit))
    if len(wrong):
        raise ValueError(
            f"{name}[{wrong[0]}] = {lengths[wrong[0]]}, but {of} has {limit} columns: a length is between 0 and "
            f"{limit}."
        )
