"""Arguments of the alignment losses: labels, logits, and the lengths of both."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from keras import ops

from kseq.backend import Tensor, known_value, warn_if
from kseq.ids import from_bools, integers
from kseq.masking import implicit_mask, known_shape, lengths_from_mask, mask_from_lengths, zero_padding

INFEASIBLE = ("inf", "zero")  # the possible losses of a row without any alignment
KEYS = ("labels", "label_lengths", "logit_lengths")


class AlignmentTargets(NamedTuple):
    """The arguments of `kseq.ctc_loss`, in its order.

    Attributes:
        labels: int `(batch, max_labels)`.
        logits: Float `(batch, time, classes)`.
        label_lengths: int `(batch,)`.
        logit_lengths: int `(batch,)`.
    """

    labels: Tensor
    logits: Tensor
    label_lengths: Tensor
    logit_lengths: Tensor

    @classmethod
    def of(cls, y_true: Any, y_pred: Tensor) -> "AlignmentTargets":
        """Make the targets from a Keras loss's arguments.

        Args:
            y_true: Labels, padded with negative numbers; or a dict with `labels` and optionally `label_lengths` and
                `logit_lengths`.
            y_pred: Logits. Without `logit_lengths`, their implicit Keras mask gives the lengths.

        Raises:
            ValueError: If the dict lacks `labels` or has an unknown key, or labels or lengths are no whole numbers.
        """
        if not isinstance(y_true, Mapping):
            y_true = {"labels": y_true}
        if "labels" not in y_true or not set(y_true) <= set(KEYS):
            raise ValueError(f"y_true is a dict of {sorted(y_true)}; expected labels and optionally {KEYS[1:]}.")
        logits, labels = ops.convert_to_tensor(y_pred), _integer(from_bools(y_true["labels"]), "labels")
        label_lengths, logit_lengths = y_true.get("label_lengths"), y_true.get("logit_lengths")
        if label_lengths is None:
            label_lengths = ops.sum(ops.cumprod(ops.cast(labels >= 0, "int32"), axis=1), axis=1)
        if logit_lengths is None:
            mask = implicit_mask(y_pred)
            whole = ops.full((ops.shape(logits)[0],), ops.shape(logits)[1], dtype="int32")
            logit_lengths = whole if mask is None else lengths_from_mask(mask)
        lengths = _integer(label_lengths, "label_lengths"), _integer(logit_lengths, "logit_lengths")
        return cls(labels, logits, *lengths)

    def without(self, rows: Tensor) -> "AlignmentTargets":
        """Return the targets, without labels and frames where `rows`, bool `(batch,)`, is True; logits there are 0."""
        kept = ops.logical_not(rows)
        lengths = (ops.where(rows, ops.zeros_like(x), x) for x in (self.label_lengths, self.logit_lengths))
        return AlignmentTargets(self.labels, zero_padding(self.logits, kept), *lengths)


def row_weights(logits: Tensor, sample_weight: Tensor | None) -> Tensor | None:
    """Return the weight of each row of `logits`, float `(batch,)`, or None if there are no weights.

    Raises:
        ValueError: If there is not one for each row.
    """
    if sample_weight is None:
        return None
    sample_weight = ops.convert_to_tensor(sample_weight)
    shape, rows = known_shape(sample_weight), logits.shape[0]
    unlike = shape is not None and bool(shape) and None not in (shape[0], rows) and shape[0] != rows
    if shape is not None and (unlike or not shape or any(axis not in (1, None) for axis in shape[1:])):
        raise ValueError(
            f"sample_weight has shape {shape}, but there are {rows} rows, which need one weight each: give ({rows},)."
        )
    return ops.reshape(ops.cast(sample_weight, "float32"), (ops.shape(logits)[0],))


def warn_of_rows(targets: AlignmentTargets, blank_index: int | None, *, of_short: bool) -> None:
    """Warn, while a compiled graph runs, of rows with the loss inf.

    Where labels are known, wrong ones are an error anyway.

    Args:
        targets: The arguments of the loss.
        blank_index: The blank, which no label may be and which separates equal labels; None if there is none.
        of_short: Whether to warn of rows with too few frames.
    """
    classes = targets.logits.shape[2]
    if known_value(targets.labels) is not None or classes is None:
        return
    inside = mask_from_lengths(targets.label_lengths, ops.shape(targets.labels)[1])
    outside = ops.clip(targets.labels, 0, classes - 1) != targets.labels
    cases = {
        f"Some labels are no class of the logits, 0 to {classes - 1}: the loss of these rows is inf, and they are not "
        "trained on. Give the model more classes, or correct the labels or their lengths.": ops.logical_and(
            inside, outside
        )
    }
    if of_short:
        cases |= _short(targets, inside, blank_index)
    if blank_index is not None:
        blank = blank_index % classes
        cases[
            f"Some labels are the blank, class {blank}: the loss of these rows is inf, and they are not trained on. If "
            f"the labels are padded with {blank}, as keras.losses.CTC takes them, pad them with -1, such as by "
            f"np.where(labels == {blank}, -1, labels), or give the loss label_lengths."
        ] = ops.logical_and(inside, targets.labels == blank)
    warn_if({message: ops.any(found) for message, found in cases.items()})


def _short(targets: AlignmentTargets, inside: Tensor, blank_index: int | None) -> dict[str, Tensor]:
    """Return the warning of rows with fewer frames than labels, and which rows have, bool `(batch,)`.

    Equal neighbours among the labels need a blank between them, if there is one.
    """
    needed = targets.label_lengths
    if blank_index is not None:
        repeated = ops.logical_and(targets.labels[:, 1:] == targets.labels[:, :-1], inside[:, 1:])
        needed = needed + ops.sum(ops.cast(repeated, "int32"), axis=1)
    message = (
        "Some rows have fewer frames than "
        + ("labels" if blank_index is None else "labels plus pairs of equal neighbours")
        + ": their loss is inf, and they are not trained on. Reduce the frame rate less, drop these rows, or give the "
        'loss infeasible="zero".'
    )
    return {message: targets.logit_lengths < needed}


def _integer(values: Any, name: str) -> Tensor:
    return integers(values, name, whole_floats=True)
