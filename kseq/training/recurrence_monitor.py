"""A callback that watches the recurrent layers of a model."""

import inspect
import json
import math
import pathlib
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree
from keras.src.utils import io_utils  # no public API; it writes where Keras's progress bar does

from kseq import backend
from kseq.config import jit_compile_scope
from kseq.numbers import whole
from kseq.training.diagnostics.jacobians import GradientFlow, gradient_flow, trajectory_norms
from kseq.training.diagnostics.layer_calls import watched_calls
from kseq.training.diagnostics.saturation import GateSaturation, trajectory_saturation
from kseq.training.diagnostics.spectra import KernelSpectrum, recurrent_spectra
from kseq.training.diagnostics.steps import Steps

HINTS = {
    "vanishes": "Use a gated cell, an initializer such as identity or chrono, or shorter distances.",
    "explodes": "Clip the gradients (global_clipnorm of the optimizer), or start from a smaller recurrent kernel.",
    "is kept": "",
}


class RecurrenceReport(NamedTuple):
    """The state of one recurrent layer.

    Attributes:
        spectra: Spectra of its recurrent kernels by gate, as in `recurrent_spectra`; empty without a matrix.
        norms: Float `(rows, distances)`, as in `state_jacobian_norms`; None if they were not asked for.
        flow: Whether gradients vanish or explode over these distances; None without norms.
        saturation: Saturation of its gates, as in `gate_saturation`; empty if nothing saturates.
    """

    spectra: dict[str, KernelSpectrum]
    norms: np.ndarray | None
    flow: GradientFlow | None
    saturation: dict[str, GateSaturation]


class RecurrenceMonitor(keras.callbacks.Callback):
    """Reports whether gradients vanish or explode in recurrent layers, their spectra, and saturated gates, in `fit`.

    At the start of training and after every `every` epochs the model reads a few given rows, outside the compiled
    training step, and each recurrent layer is examined on what it reads then. The training step stays as it is. The
    values are added to the epoch's `logs`, where callbacks that are listed after this one, such as `CSVLogger` and
    `TensorBoard`, find them:

    - `recurrence/LAYER/spectral_radius`: the largest of its gates;
    - `recurrence/LAYER/gradient_factor`: what d s_T / d s_t is multiplied by at each step;
    - `recurrence/LAYER/gradient_norm`: its norm over the longest distance;
    - `recurrence/LAYER/saturation`: the share of saturated activations of all its gates.

    `LAYER` is the layer's path. When a layer's gradient begins to vanish or to explode, a line is printed.

    Args:
        inputs: Inputs of the model, as `fit` takes them, a few rows. The work grows with `rows * time * state size`
            squared.
        layers: Recurrent layers to examine; None: all layers of the model that run a cell over time.
        every: Number of epochs between examinations.
        gradients: Whether to compute d s_T / d s_t, the costliest part.
        file: Path of a text file to which each examination appends a JSON line per layer; None writes none.

    Attributes:
        reports: A `RecurrenceReport` for each layer by its path, of the last examination.
        history: A list of dicts with the values above, an item for each examination.

    Raises:
        ValueError: If `every` is not at least 1; or, at the start of training, if the model runs none of the layers.

    Example:
        >>> monitor = kseq.training.RecurrenceMonitor(x[:4])
        >>> model.fit(x, y, epochs=5, callbacks=[monitor, keras.callbacks.CSVLogger("log.csv")])
        >>> kseq.plots.gradient_decay({name: each.norms for name, each in monitor.reports.items()})
    """

    def __init__(
        self,
        inputs: Any,
        *,
        layers: list[keras.layers.RNN] | None = None,
        every: int = 1,
        gradients: bool = True,
        file: str | pathlib.Path | None = None,
    ):
        super().__init__()
        self.inputs, self.layers, self.every = inputs, layers, whole("every", every)
        if self.every < 1:
            raise ValueError(f"every={every}, but it must be at least 1 epoch.")
        self.gradients, self.file = gradients, None if file is None else pathlib.Path(file)
        self.reports: dict[str, RecurrenceReport] = {}
        self.history: list[dict[str, float]] = []
        self._verdicts: dict[str, str] = {}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Examine the layers before the first step."""
        self._verdicts = {}
        self._examine(None, {})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Examine the layers and add the values to the logs."""
        if (epoch + 1) % self.every == 0:
            self._examine(epoch, {} if logs is None else logs)

    def examine(self) -> dict[str, RecurrenceReport]:
        """Return a report for each recurrent layer on the given rows, by the layer's path."""
        found = self._inputs_of_layers()
        missing = [layer.name for layer in self.layers or () if all(layer is not each for each, _ in found)]
        if missing or not found:
            raise ValueError(
                f"{self.model.name} does not run {', '.join(missing) or 'any recurrent layer'} on these inputs. "
                "RecurrenceMonitor examines layers such as kseq.layers.LSTM, or keras.layers.RNN with a cell."
            )
        reports: dict[str, RecurrenceReport] = {}
        for layer, arguments in found:
            taken = sum(path == layer.path or path.startswith(f"{layer.path} (") for path in reports)
            reports[f"{layer.path} ({taken + 1})" if taken else layer.path] = self._report(layer, *arguments)
        return reports

    def _examine(self, epoch: int | None, logs: dict[str, Any]) -> None:
        self.reports = self.examine()
        values: dict[str, float] = {}
        for path, report in self.reports.items():
            own = _values(report)
            values |= {f"recurrence/{path}/{name}": value for name, value in own.items()}
            self._say(path, report.flow)
            if self.file is not None:
                with self.file.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps({"epoch": epoch, "layer": path, **_written(own)}) + "\n")
        logs.update(values)
        self.history.append(values)

    def _inputs_of_layers(self) -> list[tuple[keras.layers.RNN, tuple]]:
        """Return each recurrent layer with the `(sequences, mask, initial state)` of its first call."""
        layers = self.layers or [each for each in self.model._flatten_layers() if isinstance(each, keras.layers.RNN)]
        found: list[tuple[keras.layers.RNN, tuple]] = []

        def watch(layer: Any, args: tuple, kwargs: dict, _: Any) -> None:
            given = inspect.signature(type(layer).call).bind(layer, *args, **kwargs).arguments
            parts = [given.get(name) for name in ("sequences", "mask", "initial_state")]
            known = [tree.map_structure(lambda x: None if x is None else backend.known_value(x), x) for x in parts]
            concrete = all(each is not None for each in tree.flatten(known[0]))
            if concrete and all(layer is not each for each, _ in found):
                found.append((layer, tuple(known)))

        with watched_calls(layers, watch), jit_compile_scope(False):
            self.model(tree.map_structure(_tensor, self.inputs), training=False)
        return found

    def _report(self, layer: keras.layers.RNN, sequences: Any, mask: Any, initial_state: Any) -> RecurrenceReport:
        steps = Steps(layer)
        trajectory = steps.trajectory(sequences, mask, initial_state)
        norms = trajectory_norms(steps, trajectory) if self.gradients and len(trajectory.mask) else None
        spectra = _or_none(lambda: recurrent_spectra(layer)) or {}
        saturation = _or_none(lambda: trajectory_saturation(steps, trajectory)) or {}
        flow = None if norms is None else _or_none(lambda: gradient_flow(norms))
        return RecurrenceReport(spectra, norms, flow, saturation)

    def _say(self, path: str, flow: GradientFlow | None) -> None:
        """Print a line if a layer's gradient vanishes or explodes, and did not at the last examination."""
        if flow is None or flow.verdict == self._verdicts.get(path, "is kept"):
            return
        self._verdicts[path] = flow.verdict
        io_utils.print_msg(
            f"\n{path}: the gradient {flow.verdict}. d s_T / d s_t has norm {flow.norm:.1e} over {flow.distance} "
            f"steps, {flow.factor:.3f} a step. {HINTS[flow.verdict]}".rstrip()
        )


def _values(report: RecurrenceReport) -> dict[str, float]:
    """Return the numbers of a report by their names in the logs."""
    values: dict[str, float] = {}
    radii = [each.spectral_radius for each in report.spectra.values() if each.eigenvalues.size]
    if radii:
        values["spectral_radius"] = max(radii)
    if report.flow is not None:
        values |= {"gradient_factor": report.flow.factor, "gradient_norm": report.flow.norm}
    if report.saturation:
        values["saturation"] = float(np.mean([each.share for each in report.saturation.values()]))
    return values


def _written(values: dict[str, float]) -> dict[str, Any]:
    """Return numbers as JSON knows them: text for infinity and NaN."""
    return {name: value if math.isfinite(value) else str(value) for name, value in values.items()}


def _tensor(values: Any) -> Any:
    return values if values is None else ops.convert_to_tensor(values)


def _or_none(function: Any) -> Any:
    """Return the result of a function, or None if it raises ValueError since a layer lacks what it looks at."""
    try:
        return function()
    except ValueError:
        return None
