"""The contract of readers: from a request to the inputs of a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kseq.export.row_errors import no_errors
from kseq.models.export_contract import Inputs, RowInputs, lengths_names, sample_request


class Reader:
    """Reads inputs of a model from requests that contain them as they are.

    A subclass reads them from something else: text, or the bytes of a file. It then overrides `specs`, `read` and
    `sample`.

    Attributes:
        inputs: The inputs that the reader produces, by name.
        names: Names of their lengths, by name of the sequence.
        padded: Whether requests contain sequences, which a server pads to put them into one batch.
        optional: Names of the request's tensors that may be left out: lengths, if all rows have the full length, and
            optional `RowInputs`.
        resources: Parts with assets, which the SavedModel tracks.
    """

    resources: Sequence[Any] = ()

    def __init__(self, inputs: Inputs, names: dict[str, str] | None = None):
        self.inputs = inputs
        self.names = lengths_names(inputs) if names is None else names
        self.padded = bool(self.names)
        rows = [name for name, of in inputs.items() if isinstance(of, RowInputs) and of.optional]
        self.optional = (*dict.fromkeys(self.names.values()), *rows)

    def specs(self) -> list[tf.TensorSpec]:
        """Return the tensors of a request."""
        specs = []
        for name, of_name in self.inputs.items():
            if isinstance(of_name, RowInputs):
                specs.append(tf.TensorSpec([None, *of_name.shape], of_name.dtype, name=name))
                continue
            specs.append(tf.TensorSpec([None] * of_name.axes + [*of_name.step_shape], of_name.dtype, name=name))
            if of_name.lengths_of is None:
                specs.append(tf.TensorSpec([None] * (of_name.axes - 1), tf.int32, name=self.names[name]))
        return specs

    def read(self, request: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Return the inputs and their lengths by name, and a reason for each row that cannot be read.

        The reasons are string `(batch,)`, empty for the other rows.
        """
        inputs = {name: request[name] for name in (*self.inputs, *self.names.values())}
        return inputs, no_errors(next(value for name, value in request.items() if name not in self.optional))

    def sample(self, size: int, length: int) -> dict[str, np.ndarray]:
        """Return a warm-up request of `size` rows with `length` steps."""
        return sample_request(self.inputs, self.names, size, length)
