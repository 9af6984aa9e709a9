"""Overlapping windows of rows that are longer than the largest bucket."""

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from kseq.models.export_contract import Inputs, RowInputs, lengths_names

Answer = Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]


@dataclass(frozen=True)
class Windows:
    """Splits long rows into overlapping windows, which become rows, and joins the answers to their steps.

    Two neighbouring windows share half of their steps. A step's answer is that of the window in which it is farther
    from an end, so it has at least a quarter of a window of its row on either side.

    Attributes:
        inputs: The model's inputs.
        size: Number of steps of a window, the largest bucket.
        fixed: Whether shorter rows are padded to `size`, too: there is one bucket.
    """

    inputs: Inputs
    size: int
    fixed: bool = False

    @property
    def overlap(self) -> int:
        """Number of steps that two neighbouring windows share."""
        return self.size // 2

    @property
    def stride(self) -> int:
        """Number of steps from the start of a window to that of the next one."""
        return self.size - self.overlap

    def padded(self, longest: tf.Tensor) -> tf.Tensor:
        """Return the number of steps to which rows of at most `longest` > `size` steps are padded: whole windows."""
        return self.size + self.stride * self._more(longest)

    def _more(self, lengths: tf.Tensor) -> tf.Tensor:
        """Return the number of windows of each row beside its first one."""
        return tf.maximum(lengths - self.size + self.stride - 1, 0) // self.stride

    def answer(self, answer: Answer, tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return `answer(tensors)`, computed for windows.

        Args:
            answer: A function of the model's inputs with at most `size` steps; its outputs are `(batch, time, ...)`.
            tensors: The model's inputs, padded to at most `size` steps or to whole windows.
        """
        names = lengths_names(self.inputs)
        first = next(iter(names))
        lengths, time = tensors[names[first]], tf.shape(tensors[first])[1]
        width = self.size if self.fixed else tf.minimum(time, self.size)
        counts = 1 + self._more(lengths)  # windows of each row
        begins = tf.cumsum(counts, exclusive=True)
        row = tf.repeat(tf.range(tf.size(counts)), counts)  # (windows,)
        start = self.stride * (tf.range(tf.size(row)) - tf.gather(begins, row))
        places = (row * time + start)[:, None] + tf.range(width)  # (windows, width)

        def steps(values: tf.Tensor) -> tf.Tensor:
            flat = tf.reshape(values, tf.concat([[tf.size(lengths) * time], tf.shape(values)[2:]], axis=0))
            return tf.ensure_shape(
                tf.gather(flat, places), [None, self.size if self.fixed else None, *values.shape[2:]]
            )

        windows = {}
        for name, of in self.inputs.items():
            if isinstance(of, RowInputs):
                windows[name] = tf.gather(tensors[name], row)
                continue
            windows[name], told = steps(tensors[name]), tensors[names[name]]
            inside = tf.clip_by_value(tf.gather(lengths, row) - start, 0, width)
            windows[names[name]] = inside if of.steps_of is None else steps(told)
        return self._joined(answer(windows), counts, begins, time, width)

    def _joined(
        self,
        outputs: dict[str, tf.Tensor],
        counts: tf.Tensor,
        begins: tf.Tensor,
        time: tf.Tensor,
        width: tf.Tensor | int,
    ) -> dict[str, tf.Tensor]:
        """Return the outputs of windows `(windows, width, ...)` as those of rows, `(batch, time, ...)`."""
        step = tf.range(time)
        window = tf.maximum((step - self.overlap // 2) // self.stride, 0)
        window = tf.minimum(window, counts[:, None] - 1)  # (batch, time)
        place = tf.minimum(step - self.stride * window, width - 1)  # the padding of a short row gets the last step
        place += (begins[:, None] + window) * width
        joined = {}
        for name, of in outputs.items():
            flat = tf.reshape(of, tf.concat([[tf.shape(of)[0] * width], tf.shape(of)[2:]], axis=0))
            joined[name] = tf.ensure_shape(tf.gather(flat, place), [None, None, *of.shape[2:]])
        return joined
