"""Values that several methods of a model compute from the inputs of a batch, computed once in a training step."""

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable)


class SharedBatch:
    """The inputs of the batch that a model is trained on or evaluated with, and what was computed from them.

    Args:
        inputs: The model's inputs, tensors by name.
        has_labels: Whether the batch has labels besides the inputs.
        evaluates: Whether the step is one of evaluation.
    """

    def __init__(self, inputs: Any, *, has_labels: bool = False, evaluates: bool = False):
        self.inputs, self.has_labels, self.evaluates = inputs, has_labels, evaluates
        self.values: dict[str, Any] = {}

    def has(self, inputs: Any) -> bool:
        """Return whether `inputs` are those of the batch: Keras passes the same tensors in another dict."""
        if inputs is self.inputs:
            return True
        if not isinstance(inputs, Mapping) or not isinstance(self.inputs, Mapping) or len(inputs) != len(self.inputs):
            return False
        return all(inputs.get(name) is value for name, value in self.inputs.items())


class BatchOfStep:
    """An attribute of a model: the `SharedBatch` of the step that this thread runs, or None.

    The replicas of a strategy run their steps in threads that take turns.
    """

    def __init__(self) -> None:
        self._threads = threading.local()

    def __get__(self, model: Any, owner: Any = None) -> SharedBatch | None:
        return vars(self._threads).get(str(id(model)))

    def __set__(self, model: Any, batch: SharedBatch | None) -> None:
        vars(self._threads)[str(id(model))] = batch
        if batch is None:
            del vars(self._threads)[str(id(model))]


def once_per_batch(method: Method) -> Method:
    """Return a method of the inputs that is computed once in a step of training or evaluation.

    The model has a `SharedBatch` or None, as its attribute `shared_batch`.
    """

    @functools.wraps(method)
    def shared(self: Any, inputs: Any, *args: Any) -> Any:
        batch = self.shared_batch
        if batch is None or not batch.has(inputs):
            return method(self, inputs, *args)
        if method.__name__ not in batch.values:
            batch.values[method.__name__] = method(self, inputs, *args)
        return batch.values[method.__name__]

    answer: Any = shared
    return answer
