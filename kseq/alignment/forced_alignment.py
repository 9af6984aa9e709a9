"""Forced alignment: the frames, times and confidence of each label."""

from typing import NamedTuple

import numpy as np
from keras import ops

from kseq import backend
from kseq.alignment.batch import make_batch
from kseq.alignment.ctc_topology import CTCTopology
from kseq.alignment.topology import Topology
from kseq.alignment.viterbi import best_path
from kseq.backend import Tensor
from kseq.ids import integers


class Alignment(NamedTuple):
    """The best alignment of each row.

    Attributes:
        states: int32 `(batch, time)`, the class emitted in each frame, blanks included; -1 in the padding, and in rows
            without any alignment.
        scores: Float `(batch,)`, the alignment's log-probability in nats; -inf in rows without any alignment, NaN in
            rows with NaN logits.
        starts: int32 `(batch, max_labels)`, the first frame of each label; -1 in the padding and without alignment.
        ends: int32 `(batch, max_labels)`, the frame after the label's last one; -1 as in `starts`.
        confidences: Float `(batch, max_labels)`, the mean probability of the label over its frames; 0 where `starts` is
            -1.
    """

    states: Tensor
    scores: Tensor
    starts: Tensor
    ends: Tensor
    confidences: Tensor


@backend.without_autograph
def ctc_forced_align(
    labels: Tensor, logits: Tensor, label_lengths: Tensor, logit_lengths: Tensor, *, blank_index: int = 0
) -> Alignment:
    """Align labels with frames: return the most probable CTC alignment.

    Args:
        labels: int `(batch, max_labels)`; values beyond `label_lengths` are ignored.
        logits: Float `(batch, time, classes)`, unnormalised; values beyond `logit_lengths` are ignored.
        label_lengths: int `(batch,)`.
        logit_lengths: int `(batch,)`.
        blank_index: The class that is the blank; -1 is the last.

    Returns:
        An `Alignment`. Ties are broken in favour of the alignment that leaves each state as late as possible.

    Raises:
        ValueError: As in `kseq.ctc_loss`.

    Example:
        >>> logits = np.log([[[0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]])
        >>> alignment = ctc_forced_align(np.array([[1, 2]]), logits, np.array([2]), np.array([3]))
        >>> alignment.starts, alignment.ends
        ([[0, 2]], [[1, 3]])
    """
    return forced_align(CTCTopology(blank_index), labels, logits, label_lengths, logit_lengths)


@backend.without_autograph
def forced_align(
    topology: Topology, labels: Tensor, logits: Tensor, label_lengths: Tensor, logit_lengths: Tensor
) -> Alignment:
    """Align labels with frames: return the most probable alignment that a topology allows.

    Args:
        topology: The set of allowed alignments, such as `OrderSynchronous()`, in which each frame belongs to a label.
        labels: int `(batch, max_labels)`; values beyond `label_lengths` are ignored.
        logits: Float `(batch, time, classes)`, unnormalised; values beyond `logit_lengths` are ignored.
        label_lengths: int `(batch,)`.
        logit_lengths: int `(batch,)`.

    Returns:
        An `Alignment`, as `ctc_forced_align` returns.

    Raises:
        ValueError: As in `kseq.ctc_loss`.

    Example:
        >>> logits = np.log([[[0.8, 0.2], [0.6, 0.4], [0.3, 0.7]]])
        >>> alignment = forced_align(OrderSynchronous(), np.array([[0, 1]]), logits, np.array([2]), np.array([3]))
        >>> alignment.starts, alignment.ends
        ([[0, 2]], [[2, 3]])
    """
    labels, logits = integers(labels, "labels"), ops.convert_to_tensor(logits)
    batch = make_batch(labels, logits, label_lengths, logit_lengths, topology)
    time, count = ops.shape(logits)[1], ops.shape(labels)[1]
    path = best_path(topology, batch, time)
    of_label = ops.where(path.states < 0, -1, topology.label_of_state(path.states))  # (batch, time)
    here = of_label[:, None, :] == ops.arange(count, dtype="int32")[None, :, None]  # (batch, max_labels, time)
    frames = ops.arange(time, dtype="int32")[None, None, :]
    held = ops.any(here, axis=2)
    starts = ops.where(held, ops.min(ops.where(here, frames, time), axis=2, initial=2**30), -1)
    ends = ops.where(held, ops.max(ops.where(here, frames + 1, 0), axis=2, initial=0), -1)
    probabilities = ops.exp(path.log_probabilities)[:, :, None]
    sums = ops.matmul(ops.cast(here, probabilities.dtype), probabilities)[:, :, 0]
    confidences = sums / ops.cast(ops.maximum(ends - starts, 1), sums.dtype)
    return Alignment(path.classes, path.scores, starts, ends, confidences)


def alignment_spans(alignment: Alignment, frame_rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Return when each label starts and ends, in seconds.

    Args:
        alignment: The result of `ctc_forced_align` or `forced_align`, outside compiled graphs.
        frame_rate: Frames of the logits per second: the input's frame rate divided by the model's subsampling factor.

    Returns:
        `(starts, ends)`, float64 `(batch, max_labels)` each; NaN where there is no label.

    Raises:
        ValueError: If the frame rate is not positive.

    Example:
        >>> alignment_spans(alignment, frame_rate=25.0)  # one frame every 40 ms
        ([[0.0, 0.08]], [[0.04, 0.12]])
    """
    if not frame_rate > 0:
        raise ValueError(f"frame_rate={frame_rate}, but expected the number of frames per second, above 0.")
    spans = (np.asarray(frames, np.float64) for frames in (alignment.starts, alignment.ends))
    starts, ends = (np.where(frames < 0, np.nan, frames / frame_rate) for frames in spans)
    return starts, ends
