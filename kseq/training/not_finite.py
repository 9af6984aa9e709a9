"""The first NaN or infinity in a model's run over a batch."""

import contextlib
import pathlib
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.config import jit_compile_scope
from kseq.training.diagnostics.layer_calls import watched_calls
from kseq.whole_files import write_whole


class NotFinite(NamedTuple):
    """Where NaN or infinity arose first.

    Attributes:
        source: What has it: "input NAME", "weight PATH", "output of LAYER", "loss" or "gradient".
        detail: A sentence about it.
        epoch: Index of the epoch.
        step: Index of the batch in the epoch.
        gradients: Paths of the layers whose gradients had it.
        batch: Path of the file with the batch, or None.
        operation: The operation of the backend that gave it first, and the line that called it; empty if unknown. Of a
            gradient those that first gave infinity and NaN; the backward pass has no lines.
    """

    source: str
    detail: str
    epoch: int = 0
    step: int = 0
    gradients: tuple[str, ...] = ()
    batch: str | None = None
    operation: str = ""

    def __str__(self) -> str:
        """Return a message of a few lines."""
        lines = [f"Epoch {self.epoch + 1}, batch {self.step + 1}: {self.source}: {self.detail}"]
        if self.operation:
            lines.append(f"First operation: {self.operation}")
        if self.gradients:
            more = f" and {len(self.gradients) - 8} more" if len(self.gradients) > 8 else ""
            lines.append(f"Gradients that are not finite: {', '.join(self.gradients[:8])}{more}.")
        if self.batch is not None:
            lines.append(f"The batch is in {self.batch}; read it with kseq.training.load_batch.")
        return "\n".join(lines)


def find_not_finite(model: keras.Model, data: Any) -> NotFinite:
    """Run a batch through a model, layer by layer and not compiled, and return where NaN or infinity arises first.

    The place that is found is run a second time, operation by operation, to find the first operation that gives it.

    Args:
        model: A compiled and built model.
        data: A batch as `fit` reads it: inputs, or a tuple of inputs, labels and weights.
    """
    for variable in model.trainable_variables:
        if kind := _kind(ops.convert_to_tensor(variable)):
            return NotFinite(f"weight {variable.path}", f"has {kind} before this step.")
    for name, values in named_arrays(data).items():
        if kind := _kind(values):
            return NotFinite(f"input {name}", f"has {kind} in {_places(values)}.")
    run = _Run(model, data)
    found: list[tuple[keras.layers.Layer, str, NotFinite]] = []

    def watch(layer: keras.layers.Layer, args: tuple, kwargs: dict, outputs: Any) -> None:
        if found or layer is model:
            return
        for values in tree.flatten(outputs):
            if kind := _kind(values):
                given = tree.flatten((args, kwargs))
                cause = "although its inputs are finite" if not any(map(_kind, given)) else "as have its inputs"
                source = f"output of {layer.path} ({type(layer).__name__})"
                found.append((layer, kind, NotFinite(source, f"{kind} in {_places(values)}, {cause}.")))
                return

    with _unchanged(model), watched_calls(model._flatten_layers(include_self=False), watch), jit_compile_scope(False):
        outputs = run.outputs()
        of_model = [(_kind(values), values) for values in tree.flatten(outputs) if _kind(values)]
        loss = None if found or of_model else run.loss(outputs)

    def again() -> None:
        run.loss(run.outputs())

    if found and (loss is None or _kind(loss)):
        layer, kind, where = found[0]
        return where._replace(operation=_operation(model, again, kind, layer))
    if of_model:
        kind, values = of_model[0]
        where = NotFinite(f"output of {model.name}", f"{kind} in {_places(values)}; its layers' are finite.")
        return where._replace(operation=_operation(model, again, kind, model))
    if kind := _kind(loss):
        where = NotFinite("loss", f"is {kind}, although the model's outputs are finite.")
        return where._replace(operation=_operation(model, again, kind, model, "compute_loss"))
    where = NotFinite("gradient", "is not finite, although all outputs and the loss are.")
    of_kinds = {kind: _operation(model, run.gradient, kind) for kind in ("infinity", "NaN")}
    return where._replace(operation="; ".join(f"{kind} by {words}" for kind, words in of_kinds.items() if words))


class _Run:
    """A model's run over a batch in training mode."""

    def __init__(self, model: keras.Model, data: Any):
        self._model = model
        self._inputs, self._labels, self._weights = keras.utils.unpack_x_y_sample_weight(data)

    def outputs(self) -> Any:
        return self._model(tree.map_structure(_tensor, self._inputs), training=True)

    def loss(self, outputs: Any) -> Tensor:
        inputs, labels = tree.map_structure(_tensor, self._inputs), self._labels
        return self._model.compute_loss(x=inputs, y=labels, y_pred=outputs, sample_weight=self._weights, training=True)

    def gradient(self) -> None:
        variables = self._model.trainable_variables

        def loss_of(values: list[Tensor]) -> Tensor:
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return self.loss(self.outputs())

        loss, pullback = backend.vector_jacobian_product(loss_of, [ops.copy(each.value) for each in variables])
        pullback(ops.ones_like(loss))


class _Found(Exception):  # noqa: N818
    """Ends a run when what it was made for is known."""


def _operation(model: keras.Model, run: Callable[[], Any], kind: str, owner: Any = None, method: str = "call") -> str:
    """Run a model as before, and return the operation that first gives NaN or infinity, in words.

    Args:
        model: The model, whose variables stay as they are.
        run: Runs it.
        kind: "NaN" or "infinity".
        owner: Object inside of whose method the operation is looked for; None: everywhere.
        method: Name of the method.
    """
    words: list[str] = []

    def watched(function: Callable, *args: Any, **kwargs: Any) -> Any:
        outputs: list[Any] = []
        found = backend.first_operation(lambda: outputs.append(function(*args, **kwargs)), kind)
        if found is not None:
            words.append(_described(*found))
            raise _Found
        return outputs[0]

    with _unchanged(model), jit_compile_scope(False), contextlib.suppress(_Found):
        if owner is None:
            watched(run)
        else:
            with _replaced(owner, method, watched):
                run()
    return words[0] if words else ""


@contextlib.contextmanager
def _replaced(owner: Any, method: str, function: Callable) -> Iterator[None]:
    """Replace a method of one object by `function(the method, *arguments)`, inside a `with` statement."""
    before = vars(owner).get(method)
    vars(owner)[method] = partial(function, getattr(owner, method))
    try:
        yield
    finally:
        del vars(owner)[method]
        if before is not None:
            vars(owner)[method] = before


def _described(operation: str, calls: list[traceback.FrameSummary]) -> str:
    """Return an operation and the innermost line that called it outside of the backend, in words."""
    of_backend = ("/tensorflow/python/", "/jax/", "/keras/src/backend/", "/keras/src/ops/", "/keras/src/utils/")
    of_backend += ("/keras/src/tree/", "/kseq/backend/", "<")
    for call in reversed(calls):
        path = pathlib.PurePath(call.filename).as_posix()
        if path.endswith("/kseq/training/not_finite.py"):  # in the backward pass
            break
        if not any(part in path for part in of_backend):
            line = f": {call.line}" if call.line else ""
            return f"{operation}, in {call.name}, {call.filename}, line {call.lineno}{line}"
    return operation


@contextlib.contextmanager
def _unchanged(model: keras.Model) -> Iterator[None]:
    """Give the variables that a run in training mode updates, such as moving averages, their values back after it."""
    variables = [*model.non_trainable_variables, *model.metrics_variables]
    before = [ops.convert_to_numpy(each) for each in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def named_arrays(data: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a batch by name: "x", "y", "sample_weight", followed by the keys of dicts and tuples."""
    arrays: dict[str, np.ndarray] = {}

    def add(name: str, values: Any) -> None:
        if isinstance(values, dict):
            for key, each in values.items():
                add(f"{name}/{key}", each)
        elif isinstance(values, list | tuple):
            for index, each in enumerate(values):
                add(f"{name}/{index}", each)
        elif values is not None:
            arrays[name] = _array(values)

    for name, values in zip(("x", "y", "sample_weight"), keras.utils.unpack_x_y_sample_weight(data), strict=True):
        add(name, values)
    return arrays


def save_batch(path: pathlib.Path, data: Any) -> pathlib.Path:
    """Write a batch as a NumPy archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: np.savez(file, allow_pickle=False, **named_arrays(data)))  # type: ignore
    return path


def load_batch(path: str | pathlib.Path) -> tuple[Any, Any, Any]:
    """Return a batch that `GradientMonitor` has written.

    Returns:
        `(x, y, sample_weight)`, with None for what there was not. Dicts are dicts again; tuples and lists become dicts
        with the keys "0", "1" ...

    Example:
        >>> x, y, sample_weight = kseq.training.load_batch("not_finite/not_finite-1-17.npz")
        >>> model(x, training=True)
    """
    batch: dict[str, Any] = {"x": None, "y": None, "sample_weight": None}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            *parents, last = name.split("/")
            place = batch
            for parent in parents:
                place[parent] = place.get(parent) or {}
                place = place[parent]
            place[last] = archive[name]
    return batch["x"], batch["y"], batch["sample_weight"]


def _kind(values: Any) -> str:
    """Return "NaN" or "infinity" if a tensor with a known value has it, otherwise ""."""
    if not hasattr(values, "dtype") or "float" not in keras.backend.standardize_dtype(values.dtype):
        return ""
    known = backend.known_value(values)
    if known is None:
        return ""
    known = known.astype("float32") if known.dtype.kind == "V" or known.dtype.itemsize < 4 else known
    return "NaN" if np.isnan(known).any() else "infinity" if np.isinf(known).any() else ""


def _places(values: Any) -> str:
    """Return a few words about which elements are not finite."""
    bad = np.argwhere(~np.isfinite(_array(values).astype("float64")))
    if not bad.shape[1]:
        return "its only element"
    rows = sorted({int(place[0]) for place in bad})
    shown = ", ".join(map(str, rows[:5])) + (" ..." if len(rows) > 5 else "")
    return f"row{'s' if len(rows) > 1 else ''} {shown}, first at {tuple(map(int, bad[0]))}"


def _array(values: Any) -> np.ndarray:
    array = np.asarray(values) if not ops.is_tensor(values) else ops.convert_to_numpy(values)
    return array.astype("float32") if array.dtype.kind == "V" else array


def _tensor(values: Any) -> Any:
    return values if values is None else ops.convert_to_tensor(values)
