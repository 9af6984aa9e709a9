"""Checks of arrays of features and labels for CTC."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor, size_of
from kseq.ids import check_lengths
from kseq.masking import known_shape
from kseq.models.inputs.token_checks import integer_array


def as_frames(features: Tensor, lengths: Tensor, feature_size: int) -> Tensor:
    """Return features as `(batch, time, feature_size)`; a signal of one channel may come as `(batch, time)`.

    Raises:
        ValueError: If their shape is neither.
    """
    if feature_size == 1 and known_shape(features) is None:  # TensorFlow has one function for signals of both shapes
        return ops.reshape(features, (ops.shape(lengths)[0], size_of(features, 1), 1))  # refuses several channels
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
    features, lengths = np.asarray(features), integer_array(lengths, "lengths")
    if features.dtype.kind not in "iufb" and features.dtype.name != "bfloat16":
        raise ValueError(f"features have dtype {features.dtype}, but they must be numbers.")
    check_frame_shape(features.shape, feature_size)
    features = features if features.ndim == 3 else features[..., None]
    if lengths.shape != features.shape[:1]:
        raise ValueError(
            f"features must be (batch, time, {feature_size}) and lengths (batch,), but their shapes are "
            f"{features.shape} and {lengths.shape}. The model was made with feature_size={feature_size}."
        )
    if not len(features):
        raise ValueError(f"The batch is empty: features has shape {features.shape}. Give at least one row.")
    check_lengths(lengths, features.shape[1], "lengths", "features")
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
    labels, lengths = integer_array(inputs["labels"], "labels"), integer_array(inputs["label_lengths"], "label_lengths")
    rows = np.shape(inputs["lengths"])
    if labels.ndim != 2 or lengths.shape != rows or labels.shape[:1] != rows:
        raise ValueError(
            f"labels must be (batch, max_labels) and label_lengths (batch,), with the {rows[0]} rows of features, but "
            f"their shapes are {labels.shape} and {lengths.shape}."
        )
    check_lengths(lengths, labels.shape[1], "label_lengths", "labels")
    real = np.arange(labels.shape[1]) < lengths[:, None]
    wrong = real & ((labels < 0) | (labels >= num_classes) | (labels == blank_index))
    if wrong.any():
        row, place = (int(axis) for axis in np.argwhere(wrong)[0])
        raise ValueError(
            f"labels[{row}, {place}] = {labels[row, place]}, but the model has classes 0 to {num_classes - 1}, and "
            f"{blank_index} is the blank, which no label may be. If it is padding, correct label_lengths. Otherwise "
            "shift the labels, or create the model with another num_classes or blank_index."
        )


def check_feasible(labels: Any, label_lengths: Any, frames: Any) -> None:
    """Raise ValueError if a row has too few frames for any alignment of its labels.

    Args:
        labels: int `(batch, max_labels)`.
        label_lengths: int `(batch,)`.
        frames: int `(batch,)`, the number of frames after the front end.
    """
    labels, label_lengths = integer_array(labels, "labels"), integer_array(label_lengths, "label_lengths")
    frames = np.asarray(frames)
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


def check_tokenizer(model: Any, target: Any) -> None:
    """Raise ValueError if the tokenizer of the labels, where there is one, does not fit the model's classes."""
    if target is not None and (target.vocabulary_size, target.pad_id) != (model.num_classes, model.blank_index):
        raise ValueError(
            f"The target tokenizer has {target.vocabulary_size} ids and the pad token {target.pad_id}, but the model "
            f"has {model.num_classes} classes and the blank {model.blank_index}. Use the tokenizer whose ids the "
            "model was trained on, or leave it out and map the classes yourself."
        )


def frames_of(features: Any, feature_size: int) -> np.ndarray:
    """Return the features of one row as `(time, feature_size)`; a signal `(time,)` has `feature_size` 1.

    Raises:
        ValueError: If they have another shape.
    """
    features = np.asarray(features)
    frames = features[:, None] if features.ndim == 1 and feature_size == 1 else features
    if frames.ndim != 2 or frames.shape[1] != feature_size:
        also = " or (time,)" if feature_size == 1 else ""
        raise ValueError(
            f"A row of features has shape {features.shape}, expected (time, {feature_size}){also}. Give several rows "
            "as a list of arrays."
        )
    return frames


def check_encoder(layers: list) -> None:
    """Raise ValueError unless there are layers and each returns one output per frame."""
    if not layers:
        raise ValueError("The encoder is an empty list, but a recognizer needs at least one layer.")
    for index, layer in enumerate(layers):
        for option, wanted in {"return_sequences": True, "return_state": False}.items():
            if getattr(layer, option, wanted) != wanted:
                raise ValueError(
                    f"Layer {index} of the encoder, {layer.name}, has {option}={not wanted}, but CTC needs one output "
                    f"per frame, and nothing else. Create it with {option}={wanted}."
                )
