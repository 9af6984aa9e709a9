"""The forecaster of series of numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.cells import Cell
from kseq.cells.copies import config_of, copy_of
from kseq.heads import Head
from kseq.heads.quantiles import NINE_LEVELS, check_levels
from kseq.ids import with_nan
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import RNN
from kseq.losses import NegativeLogLikelihood
from kseq.losses.negative_log_likelihood import MISSING
from kseq.models.export_contract import Serving, ServingOptions
from kseq.models.inputs.model_inputs import InputNames
from kseq.models.inputs.shared_batch import once_per_batch
from kseq.models.sequence_model import SequenceModel
from kseq.models.series.forecast_call import forecast_inputs, run_forecast
from kseq.models.series.forecaster_serving import serving_of_forecaster
from kseq.models.series.paths import Forecast, quantiles_of_paths, repeat_rows, sample_paths
from kseq.models.series.series_checks import check_compiled, check_head, check_series, count
from kseq.models.series.series_inputs import (
    Series,
    SeriesInputs,
    joined_inputs,
    shifted,
    steps_of_target,
    take_steps,
    without_target,
)
from kseq.numbers import flag, positive_int, share


@keras.saving.register_keras_serializable(package="kseq")
class Forecaster(SequenceModel):
    """DeepAR: recurrent layers that predict the distribution of the next value of a series, and draw its future.

        h_t = RNN(h_{t-1}, [z_{t-1} / s, x_t]);   z_t ~ head(W h_t + b), scaled by s

    s is the mean absolute value of the context, and x_t what is known of the step and of the series, with log s. To
    forecast, values are drawn step by step, and each is the input of the next: `num_paths` possible futures for each
    series, of which the quantiles and the mean are taken.

    With `kseq.heads.Quantiles`, which has no samples, the steps of the target get the last value of the context and
    their own number in place of the previous value, and all quantiles are predicted at once.

    Args:
        cell: The recurrent cell; every layer gets a copy with its own weights, in this model's precision.
        head: The distribution of a value, such as `kseq.heads.StudentT()`. With `kseq.heads.Bernoulli(n)` a value is
            `n` labels, such as the notes of a piano roll.
        horizon: Number of steps that `forecast` and an exported model predict. Targets in training may have others.
        num_layers: Number of recurrent layers.
        dropout: Share of each layer's outputs dropped in training; a row's steps share one dropout mask.
        num_features: Number of covariates of each step, known also for the target, such as the day of the week.
        category_sizes: For each category of a series, such as its country, the number of ids.
        embedding_dim: Size of the embedding of each category.
        num_numbers: Number of covariates of each series.
        scaling: Whether values are scaled. None: if the head's can be.
        difference: Whether the differences of successive values are modelled in place of the values: for prices, rates
            and other series that wander. Paths are then sums of drawn differences. Not for heads of whole numbers or
            without samples.
        missing: What NaN in a series is: "refuse", an error; "mask", a missing value, which has no loss, and which the
            network reads as 0 with a mark.
        levels: Levels of the quantiles of a forecast, increasing numbers between 0 and 1.
        num_paths: Number of paths that are drawn of each series.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A dict: `context` float `(batch, time, *event_shape)` and `lengths` int `(batch,)`, the past; to train
            and evaluate `target` `(batch, steps, *event_shape)` and `target_lengths`, what follows it. With covariates
            `context_features` `(batch, time, num_features)` and `target_features` `(batch, steps, num_features)`,
            `categories` int `(batch, n)` and `numbers` float `(batch, num_numbers)`. Padding is at the end and never
            changes an answer. `fit`, `evaluate` and `predict` also take lists of rows, without lengths.
        training: Whether dropout is on.

    Returns:
        The parameters of the distribution of each value given the values before it, as `head.stack` returns them,
        float32 `(batch, time + steps, n)`: of the context, and right after it of the target, with a Keras mask of the
        steps that have a loss. `head.unstack` returns them by name. With `difference` they are those of differences.

    `kseq.training.forecast_windows` cuts series into training rows. The loss is the negative log-likelihood of the
    values of context and target, for `Quantiles` the pinball loss of the target, the mean over the steps. In `evaluate`
    and for validation data, metrics such as `kseq.metrics.WeightedQuantileLoss` get the quantiles of forecasts of the
    target as predictions, `(batch, steps, levels)`, and as truth context and target joined, NaN where there is padding.
    A row whose context has no known value, or with `difference` no two successive ones, has no forecast: its answer is
    NaN, and it has weight 0 in metrics. Values beyond 1e30 in size are refused, because sums of them leave float32.

    `kseq.export_saved_model` exports it with `context`, `lengths` and the covariates as inputs, also the `seed` of each
    row with `seed_input=True`, and `quantiles` `(batch, horizon, levels)`, `mean` `(batch, horizon)` and `paths`
    `(batch, num_paths, horizon)` as the answer. Contexts that are longer than the largest bucket are refused.

    Raises:
        ValueError: If an option is out of range or two do not fit each other. In `fit`, `evaluate` and `predict` with
            arrays, if one is missing or does not fit, or a value is not one of the head: not finite, a negative count.
            In a compiled step such a row makes the loss NaN, and has no gradient; without a target its outputs are NaN.

    Example:
        >>> model = kseq.models.Forecaster(kseq.cells.LSTMCell(40), kseq.heads.StudentT(), horizon=30)
        >>> model.forecast(np.cumsum(np.ones((2, 60)), axis=1), seed=0).quantiles.shape
        (2, 30, 9)

    Reference: D. Salinas, V. Flunkert, J. Gasthaus, T. Januschowski, "DeepAR: probabilistic forecasting with
    autoregressive recurrent networks", International Journal of Forecasting, 2020.
    """

    has_metrics = False  # whether an evaluation has metrics of forecasts

    def __init__(
        self,
        cell: Cell,
        head: Head,
        *,
        horizon: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        num_features: int = 0,
        category_sizes: Sequence[int] = (),
        embedding_dim: int = 4,
        num_numbers: int = 0,
        scaling: bool | None = None,
        difference: bool = False,
        missing: str = "refuse",
        levels: Sequence[float] = NINE_LEVELS,
        num_paths: int = 100,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.head, self.horizon = head, positive_int(self, "horizon", horizon)
        self.levels, self.num_paths = check_levels(levels), positive_int(self, "num_paths", num_paths)
        self.scaling, self.missing, self.difference = scaling, missing, flag("difference", difference)
        check_head(head, scaling, self.difference, self.levels)
        if missing not in MISSING:
            raise ValueError(f"missing={missing!r}, expected one of {MISSING}.")
        self.num_features, self.num_numbers = count("num_features", num_features), count("num_numbers", num_numbers)
        self.category_sizes = tuple(positive_int(self, "category_sizes", size) for size in category_sizes)
        self.embedding_dim = positive_int(self, "embedding_dim", embedding_dim)
        self.scales = head.can_scale if scaling is None else flag("scaling", scaling)
        self.reads = SeriesInputs(
            head, self.num_features, self.category_sizes, self.num_numbers, self.scales, self.difference, missing
        )
        self.cell_config, self.num_layers = config_of(cell), positive_int(self, "num_layers", num_layers)
        self.dropout = share(self, "dropout", dropout)
        policy = self.dtype_policy
        self.embeddings = [keras.layers.Embedding(n, self.embedding_dim, dtype=policy) for n in self.category_sizes]
        self.rnns = [
            RNN(copy_of(cell, policy), return_sequences=True, return_state=True, dtype=policy)
            for _ in range(self.num_layers)
        ]
        self.unit_dropout = keras.layers.Dropout(dropout, noise_shape=(None, 1, None), dtype=policy)
        self.to_outputs = keras.layers.Dense(head.size, dtype="float32")
        self._graphs: dict[Any, Any] = {}  # of forecasts, by their options
        freeze_inner_layers(self)

    @property
    def names(self) -> InputNames:
        """Names of the inputs."""
        return self.reads.names()

    def build(self, inputs_shape: Any = None) -> None:
        """Create the weights; their shapes do not depend on `inputs_shape`."""
        for embedding in self.embeddings:
            embedding.build((None,))
        width = math.prod(self.head.event_shape) + (self.missing == "mask") + (not self.head.can_sample)
        width += len(self.category_sizes) * self.embedding_dim + self.num_numbers + self.scales + self.num_features
        for layer in self.rnns:
            layer.build((None, None, width))
            width = layer.compute_output_shape((None, None, width))[0][-1]
        self.to_outputs.build((None, None, width))

    def compile(self, optimizer: Any = "adam", loss: Any = None, *, metrics: Any = None, **kwargs: Any) -> None:
        """Configure the training, as in Keras; by default there are no metrics.

        Raises:
            ValueError: If the loss is not a `kseq.losses.NegativeLogLikelihood` of the model's head with
                `stacked=True`, or a metric has other levels than the model.
        """
        loss = NegativeLogLikelihood(self.head, stacked=True) if loss is None else loss
        every = keras.tree.flatten([each for each in (metrics, kwargs.get("weighted_metrics")) if each is not None])
        self.has_metrics = bool(every)
        check_compiled(loss, every, self.head, self.levels)
        super().compile(optimizer, loss, metrics=[] if metrics is None else metrics, **kwargs)

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> Tensor:
        """Return the parameters of each step's distribution."""
        series = self._series(inputs)
        parameters = self.head.stack(self._parameters(self._run(series, training)[0], series.scale[:, None]))
        return parameters if training else with_nan(parameters, series.valid)  # in training the labels are wrong

    @once_per_batch
    def _series(self, inputs: Mapping[str, Tensor]) -> Series:
        return self.reads.read(inputs)

    @once_per_batch
    def compute_mask(self, inputs: Mapping[str, Tensor], previous_mask: Any = None) -> Tensor:
        """Return which steps have a loss, bool `(batch, time + steps)`."""
        return self.reads.counted(self._series(inputs))

    @once_per_batch
    def labels(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the values of context and target, float32 `(batch, time + steps, *event_shape)`."""
        return self.reads.labels(self._series(inputs))

    def _run(self, series: Series, training: bool | None = None) -> tuple[Tensor, list]:
        """Return the outputs of the top layer `(batch, time, units)`, and the final states of each layer."""
        values, states = self._network_inputs(series), []
        for layer in self.rnns:
            values, *state = layer(values, mask=series.mask, training=training)
            values = self.unit_dropout(values, training=training)
            states.append(tuple(state))
        return values, states

    def _network_inputs(self, series: Series) -> Tensor:
        """Return the inputs of the first layer, `(batch, time, n)`: of each step the value before it."""
        before, known = shifted(series.values), shifted(ops.cast(series.known, "float32"))
        number = None
        if not self.head.can_sample:
            number = ops.maximum(steps_of_target(series), 0)
            step = ops.arange(ops.shape(series.mask)[1], dtype="int32")
            place = ops.minimum(step, series.lengths[:, None])  # from the target on, the value that ends the context
            before, known = take_steps(before, place), take_steps(known, place)
            number = ops.cast(number, "float32") / self.horizon
        return self._joined(before, known, number, series.features, self._of_series(series), series.scale[:, None])

    def _of_series(self, series: Series) -> list[Tensor]:
        """Return what is known of each series, `(batch, n)` each."""
        parts = [] if series.numbers is None else [series.numbers]
        parts += [embedding(series.categories[:, i]) for i, embedding in enumerate(self.embeddings)]
        return parts + [ops.log(series.scale)[:, None]] * self.scales

    def _joined(self, before: Tensor, known: Any, number: Any, features: Any, static: list, scale: Tensor) -> Tensor:
        known = known if self.missing == "mask" else None
        return joined_inputs(before, scale, [known, number], features, static, self.compute_dtype)

    def _parameters(self, hidden: Tensor, scale: Tensor) -> Any:
        """Return the distributions of hidden states `(..., units)`, whose values have the `scale` `(..., or 1)`."""
        parameters = self.head.parameters(self.to_outputs(hidden))
        if not self.scales:
            return parameters
        return self.head.scaled(parameters, ops.broadcast_to(scale, ops.shape(hidden)[:-1]))

    def draw_paths(self, inputs: Mapping[str, Tensor], horizon: Any, num_paths: int, seed: Any) -> Tensor:
        """Return sample paths, float32 `(batch, num_paths, horizon, *event_shape)`.

        A pure function, which can be compiled. The paths of a row that is wrong or without a known value are NaN.

        Args:
            inputs: The inputs without the target, but with `target_features` of `horizon` steps if the model reads
                them.
            horizon: Number of steps.
            num_paths: Number of paths of each row.
            seed: An int, or int `(batch,)`, one for each row, so that a row alone gets the same paths as in a batch.
        """
        self.head.refuse_without_samples("sample paths")
        series = self.reads.read(without_target(inputs))
        _, states = self._run(series)
        static = [repeat_rows(each, num_paths) for each in self._of_series(series)]
        scale = repeat_rows(series.scale, num_paths)

        def step(states: Any, previous: Tensor, of_step: list) -> tuple[Any, Any]:
            known, features = (*(each[:, None] for each in of_step), None)[:2]
            values = self._joined(previous[:, None], known, None, features, static, scale[:, None])[:, 0]
            after = []
            for layer, before in zip(self.rnns, states, strict=True):
                values, new = layer.cell(values, list(before), training=False)
                after.append(tuple(new))
            return after, self._parameters(values, scale)

        last = ops.maximum(series.lengths - 1, 0)[:, None]
        known = ops.cast(take_steps(series.known, last), "float32")
        known = ops.where(ops.arange(horizon, dtype="int32") == 0, known, 1.0)  # samples are known, (batch, horizon)
        features = [ops.cast(inputs["target_features"], "float32")] if self.num_features else []
        features, first = [known, *features], take_steps(series.values, last)[:, 0]
        paths = sample_paths(
            step, states, first, features, head=self.head, horizon=horizon, num_paths=num_paths, seed=seed
        )
        if self.difference:
            paths = ops.cumsum(paths, axis=2) + series.last[:, None, None]
        return with_nan(paths, ops.logical_and(series.valid, self.reads.has_known(series)))

    def forecast_tensors(self, inputs: Mapping[str, Tensor], horizon: Any, num_paths: int, seed: Any) -> Forecast:
        """Return the `Forecast` of tensors, with the model's `levels`; arguments as in `draw_paths`."""
        if self.head.can_sample:
            paths = self.draw_paths(inputs, horizon, num_paths, seed)
            return Forecast(quantiles_of_paths(paths, self.levels), ops.mean(paths, axis=1), paths)
        batch = ops.shape(inputs["context"])[0]
        series = self.reads.read(
            {
                **inputs,
                "target": ops.zeros((batch, horizon), "float32"),
                "target_lengths": ops.full((batch,), horizon, dtype="int32"),
            }
        )
        hidden = take_steps(self._run(series)[0], series.lengths[:, None] + ops.arange(horizon, dtype="int32"))
        quantiles = self.head.quantile(
            self._parameters(hidden, series.scale[:, None]), np.array(self.levels, "float32")
        )
        quantiles = with_nan(quantiles, ops.logical_and(series.valid, self.reads.has_known(series)))
        return Forecast(quantiles, None, None)

    def forecast(
        self,
        context: Any,
        *,
        horizon: int | None = None,
        num_paths: int | None = None,
        seed: int | None = None,
        **covariates: Any,
    ) -> Forecast:
        """Return forecasts of series.

        Args:
            context: Float `(batch, time, *event_shape)`, or a list of rows of different lengths.
            horizon: Number of steps; None: the model's.
            num_paths: Number of paths of each series; None: the model's.
            seed: An int, or one for each row; the same seed gives the same paths. None draws other ones at each call.
            **covariates: `context_features`, `target_features`, `categories` and `numbers`, of the rows of the context,
                and `lengths`, if the context is padded.

        Returns:
            `Forecast` of NumPy arrays, with the quantiles of `model.levels`.

        Raises:
            ValueError: If an array does not fit the model, or has a value that the head cannot have.
        """
        horizon = self.horizon if horizon is None else positive_int(self, "horizon", horizon)
        num_paths = self.num_paths if num_paths is None else positive_int(self, "num_paths", num_paths)
        inputs = forecast_inputs(self, context, covariates, horizon)
        if not self.built:
            self.build()
        return run_forecast(self, self._graphs, inputs, horizon, num_paths, seed)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        """Return the loss; for the metrics of an evaluation also forecast, as JAX has the weights here alone."""
        if self._forecasts:
            self.check_targets(x)
            forecast = self.forecast_tensors(x, ops.shape(x["target"])[1], self.num_paths, 0)
            self.shared_batch.values["quantiles"] = forecast.quantiles
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Return the metrics: in training of the loss alone, in evaluation of forecasts of the target."""
        if not self._forecasts:
            return {self._loss_tracker.name: self._loss_tracker.result()}
        quantiles, weights = self.shared_batch.values["quantiles"], self.sample_weights(x, sample_weight)
        weights = self.reads.weights_of_forecasts(self._series(x), weights)
        return keras.Model.compute_metrics(self, x, self.reads.truth(x), quantiles, weights)

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the metrics so far; before the first evaluation that of the loss alone."""
        if self._compile_metrics is not None and self._compile_metrics.built:
            return super().get_metrics_result()
        return {self._loss_tracker.name: self._loss_tracker.result()}

    @property
    def _forecasts(self) -> bool:
        """Whether a step with metrics of forecasts is traced or run."""
        return self.has_metrics and self.shared_batch is not None and self.shared_batch.evaluates

    def check_inputs(self, inputs: Any) -> None:
        """Raise ValueError if the arrays in `inputs` do not fit the model."""
        check_series(inputs, self.reads, with_target=False)

    def check_targets(self, inputs: Mapping[str, Any]) -> None:
        """Raise ValueError if there is no target."""
        if "target" not in inputs:
            raise ValueError(f"The inputs {sorted(inputs)} lack target, which training and metrics need.")

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model: from numbers to quantiles and paths."""
        return serving_of_forecaster(self, options)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("horizon", "num_layers", "dropout", "num_features", "embedding_dim", "num_numbers", "scaling")
        return {
            **super().get_config(),
            "cell": self.cell_config,
            "head": keras.saving.serialize_keras_object(self.head),
            **{name: getattr(self, name) for name in (*names, "difference", "missing", "num_paths")},
            "category_sizes": list(self.category_sizes),
            "levels": list(self.levels),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Forecaster":
        """Create a forecaster from the result of `get_config`."""
        load = keras.saving.deserialize_keras_object
        return cls(**{**config, **{name: load(config[name], custom_objects) for name in ("cell", "head")}})
