"""Checked inputs of the alignment algorithms: labels, logits and the lengths of both."""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from kseq import backend
from kseq.alignment.topology import Topology
from kseq.backend import Tensor
from kseq.ids import integers, known_integers
from kseq.masking import mask_from_lengths
from kseq.padded_sizes import FRAMES, LABELS, pad_unknown


class Batch(NamedTuple):
    """A checked batch of labels and logits.

    Attributes:
        labels: int32 `(batch, max_labels)`, valid classes; 0 in the padding and in place of invalid labels.
            `max_labels` is at least 1.
        label_lengths: int32 `(batch,)`.
        logits: Float32 or float64 `(batch, time, classes)`, unchanged in the padding; `time` is at least 1.
        inside: Bool `(batch, time)`, True at real frames.
        usable: Bool `(batch,)`, False in rows with an invalid label or length, which have no alignment.
    """

    labels: Tensor
    label_lengths: Tensor
    logits: Tensor
    inside: Tensor
    usable: Tensor


def make_batch(
    labels: Tensor, logits: Tensor, label_lengths: Tensor, logit_lengths: Tensor, topology: Topology
) -> Batch:
    """Return the arguments as a `Batch`.

    Raises:
        ValueError: If shapes do not match, or if values are known (outside compiled graphs) and labels, lengths or
            logits are invalid.
    """
    given = {"labels": labels, "label_lengths": label_lengths, "logit_lengths": logit_lengths}
    known = {name: known_integers(values, name) for name, values in given.items()}
    labels, label_lengths, logit_lengths = (integers(values, name) for name, values in given.items())
    logits = ops.convert_to_tensor(logits)
    _check_shapes(labels, logits, label_lengths, logit_lengths)
    blank = _blank_class(topology, logits.shape[2])
    _check_values(known, labels, logits, blank)
    limits = (label_lengths, ops.shape(labels)[1]), (logit_lengths, ops.shape(logits)[1])
    if not labels.shape[1]:  # 0, or unknown and possibly 0
        width = ops.shape(labels)[1]
        labels = ops.pad(labels, [[0, 0], [0, 1 if isinstance(width, int) else ops.maximum(1 - width, 0)]])
    real = mask_from_lengths(label_lengths, ops.shape(labels)[1])
    right = ops.clip(labels, 0, ops.shape(logits)[2] - 1) == labels
    if blank is not None:
        right = ops.logical_and(right, labels != blank)
    usable = ops.all(ops.logical_or(right, ops.logical_not(real)), axis=1)
    for lengths, limit in limits:
        usable = ops.logical_and(usable, ops.clip(lengths, 0, limit) == lengths)
    if logits.shape[1] == 0:
        logits = ops.pad(logits, [[0, 0], [0, 1], [0, 0]])
    inside = mask_from_lengths(logit_lengths, ops.shape(logits)[1])
    labels = ops.where(ops.logical_and(real, right), labels, ops.zeros_like(labels))
    return Batch(labels, label_lengths, precise(logits), inside, usable)


def pad_unknown_sizes(batch: Batch) -> Batch:
    """Return the batch with padding where the number of rows, labels or frames is known only when the graph runs.

    Rows that are padding have no labels and no frames, so their log-probability is 0.
    """
    labels = pad_unknown(batch.labels, 1, LABELS)
    logits, inside = (pad_unknown(each, 1, FRAMES) for each in (batch.logits, batch.inside))
    padded = batch._replace(labels=labels, logits=logits, inside=inside)
    return Batch(*(pad_unknown(each, 0) for each in padded))


def precise(logits: Tensor) -> Tensor:
    """Return float64 logits unchanged and all others as float32."""
    return logits if keras.backend.standardize_dtype(logits.dtype) == "float64" else ops.cast(logits, "float32")


def _blank_class(topology: Topology, classes: int | None) -> int | None:
    blank = topology.blank_index
    if blank is None or classes is None:
        return blank
    if not -classes <= blank < classes:
        raise ValueError(
            f"blank_index={blank}, but the logits have {classes} classes: expected {-classes} to {classes - 1}."
        )
    return blank % classes


def _check_shapes(labels: Tensor, logits: Tensor, label_lengths: Tensor, logit_lengths: Tensor) -> None:
    found = {"labels": labels, "logits": logits, "label_lengths": label_lengths, "logit_lengths": logit_lengths}
    ranks = {"labels": 2, "logits": 3, "label_lengths": 1, "logit_lengths": 1}
    shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in found.items())
    batches = {x.shape[0] for x in found.values()} - {None} if all(len(x.shape) for x in found.values()) else {0, 1}
    if any(len(x.shape) != ranks[name] for name, x in found.items()) or len(batches) > 1:
        raise ValueError(
            f"The shapes are {shapes}; expected labels (batch, max_labels), logits (batch, time, classes), and both "
            "lengths (batch,), all with the same batch size."
        )
    if logits.shape[2] is None or logits.shape[2] == 0:
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}, but the number of classes must be known, and not 0."
        )


def _check_values(known: dict[str, np.ndarray | None], labels: Tensor, logits: Tensor, blank: int | None) -> None:
    """Raise if a known value is invalid; while a graph is traced, no value is known."""
    label_lengths, logit_lengths = known["label_lengths"], known["logit_lengths"]
    for name, lengths, limit, axis in (
        ("label_length", label_lengths, labels.shape[1], "max_labels"),
        ("logit_length", logit_lengths, logits.shape[1], "time"),
    ):
        if lengths is not None and limit is not None and np.any((lengths < 0) | (lengths > limit)):
            row = int(np.argmax((lengths < 0) | (lengths > limit)))
            raise ValueError(
                f"Row {row}: {name}={lengths[row]}, but there are {limit} places ({axis}): expected 0 to {limit}."
            )
    if label_lengths is not None and known["labels"] is not None:
        _check_labels(known["labels"], label_lengths, logits.shape[2], blank)
    if logit_lengths is not None:
        values = backend.known_value(logits)
        if values is not None:
            _check_logits(values, logit_lengths)


def _check_labels(labels: np.ndarray, lengths: np.ndarray, classes: int, blank: int | None) -> None:
    real = np.arange(labels.shape[1])[None] < lengths[:, None]
    wrong = real & ((labels < 0) | (labels >= classes))
    if np.any(wrong):
        row, place = np.argwhere(wrong)[0]
        raise ValueError(
            f"Row {row}, place {place}: label {labels[row, place]}, but the logits have {classes} classes: expected 0 "
            f"to {classes - 1}. Labels beyond label_lengths are padding; this row's label_length is {lengths[row]}."
        )
    if blank is not None and np.any(real & (labels == blank)):
        row, place = np.argwhere(real & (labels == blank))[0]
        raise ValueError(
            f"Row {row}, place {place}: label {labels[row, place]} is the blank (blank_index={blank}). Leave blanks "
            "out of the labels, shift the labels by one, or choose another blank_index. If the labels are padded with "
            "it, give label_lengths, or pad them for kseq.losses.CTC with -1: np.where(labels == blank, -1, labels)."
        )


def _check_logits(logits: np.ndarray, lengths: np.ndarray) -> None:
    odd = ~np.isfinite(np.sum(logits, axis=2)) & (np.arange(logits.shape[1])[None] < lengths[:, None])
    if np.any(odd):  # -inf is a probability of zero
        odd &= np.any(np.isnan(logits) | (logits > np.finfo(np.float64).max), axis=2)
    if np.any(odd):
        row, frame = np.argwhere(odd)[0]
        raise ValueError(
            f"Row {row}, frame {frame}: the logits have NaN or +inf. Check the learning rate and the inputs."
        )
