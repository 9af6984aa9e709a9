"""Metrics of what a model decodes, computed while it is trained."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq import backend
from kseq.models.inputs.text_batches import map_rows
from kseq.numbers import positive_int, whole
from kseq.training.held_out import HeldOut, held_out
from kseq.training.text_metrics import check_metrics, figure_of, metrics_by_name, with_span_f1


class DecodedMetric(keras.callbacks.Callback):
    """Decodes held-out rows every few epochs or steps, and puts figures such as BLEU into the logs of `fit`.

    Placed before `EarlyStopping`, `ModelCheckpoint` and `ReduceLROnPlateau` in `callbacks`, it is what they monitor;
    give these `mode="max"` or `"min"`, which Keras cannot tell from the name. In epochs between two evaluations the
    logs repeat the last figures; before the first there are none.

    The answers are those of the model's `translate`, `describe`, `recognize` or `tag`, or of a language model's
    `generate`. They are computed by one function that reads the present weights, and that XLA compiles once for each
    size of a batch: lengths and rows are padded to powers of two, so it is not compiled anew at later evaluations.

    Args:
        data: A pair of lists, what the model reads and the right answers: for a `Seq2Seq` `(texts, texts)`, or
            `(arrays, texts)` if it reads arrays; for a `CTCRecognizer` `(arrays of features, texts)`; for a `Tagger`
            `(sentences of words, names of tags)`; for a `LanguageModel` `(prompts, continuations)`. Rows of ids may
            take the place of texts, and must for a model without tokenizers. Or, but for a `LanguageModel`, a dict of
            rows as `fit` takes it, such as `kseq.training.text_pairs` makes it.
        metrics: One metric, a list of them, or a dict with names of their own. A metric is "bleu", "chrf", "wer",
            "cer", "exact_match" or, for a `Tagger` with `class_names`, "span_f1"; a metric of `kseq.metrics` that
            compares texts or tags; or a function of `(right answers, decoded answers)`, two lists, to a number.
        strategy: Decoding strategy, or its name, as in the model's `decode`; a `Tagger` takes none.
        max_length: Largest number of tokens of an answer, the end token included. None: as in `translate` and
            `describe`. A `LanguageModel` needs it, for continuations; others take none.
        every: Number of epochs from one evaluation to the next.
        every_steps: Number of training steps from one evaluation to the next, in place of `every`. The figures are in
            the logs of these steps, and the last ones in those of each epoch.
        prefix: Beginning of the names in the logs, such as `"val_bleu"`.
        seed: Seed of strategies that draw random numbers: each evaluation draws the same.
        jit_compile: Whether XLA compiles the function. False: it is a graph on TensorFlow, which is faster for
            convolutions on a processor, and not compiled on JAX.

    Attributes:
        figures: The last figures by their names in the logs.
        decoded: The last decoded answers: texts, or lists of ids or names.

    Raises:
        ValueError: When it is made, if a metric is unknown or an option out of range. When training begins, if the
            model decodes nothing, the data do not fit it, or a metric cannot compare the answers.

    Right answers are compared as they are; to ignore differences that the tokenizer's normalisation removes, give
    normalised texts. `callback.evaluate(model)` decodes outside `fit`.

    Example:
        >>> bleu = kseq.training.DecodedMetric((sources, targets), "bleu", strategy="beam")
        >>> best = keras.callbacks.ModelCheckpoint("best.keras", monitor="val_bleu", mode="max", save_best_only=True)
        >>> model.fit(batches, epochs=20, callbacks=[bleu, best])
    """

    def __init__(
        self,
        data: Any,
        metrics: Any,
        *,
        strategy: Any = "greedy",
        max_length: int | None = None,
        every: int = 1,
        every_steps: int | None = None,
        prefix: str = "val_",
        seed: int = 0,
        jit_compile: bool = True,
    ):
        super().__init__()
        self.data, self.metrics = data, metrics_by_name(metrics)
        self.strategy, self.max_length, self.seed = strategy, max_length, whole("seed", seed)
        self.every = positive_int(self, "every", every)
        self.every_steps = None if every_steps is None else positive_int(self, "every_steps", every_steps)
        if self.every_steps is not None and self.every != 1:
            raise ValueError(f"every={every} counts epochs and every_steps={every_steps} steps: give one of them.")
        self.prefix, self.jit_compile = str(prefix), bool(jit_compile)
        self.async_safe = self.every_steps is None  # Keras then need not wait for each step's logs
        self.figures: dict[str, float] = {}
        self.decoded: list = []
        self._steps = 0
        self._of_model: tuple[Any, HeldOut, dict[str, Any], Callable] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Check the data and the metrics."""
        self._prepare(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluate, if it is time, and add the figures to the step's logs."""
        if self.every_steps is None:
            return
        self._steps += 1
        if self._steps % self.every_steps == 0:
            self.evaluate(self.model)
            if logs is not None:
                logs.update(self.figures)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Evaluate, if it is time, and add the last figures to the epoch's logs."""
        if self.every_steps is None and (epoch + 1) % self.every == 0:
            self.evaluate(self.model)
        if logs is not None:
            logs.update(self.figures)

    def evaluate(self, model: Any) -> dict[str, float]:
        """Return the figures of a model by their names in the logs.

        Raises:
            ValueError: As when training begins.
        """
        rows, metrics, function = self._prepare(model)

        def answers(values: np.ndarray, lengths: np.ndarray) -> list:
            outputs = function(rows.inputs(values), lengths)
            return rows.read({name: ops.convert_to_numpy(of) for name, of in outputs.items()}, values, lengths)

        self.decoded = map_rows(answers, rows.rows, rows.dtype, pad=rows.pad)
        self.figures = {
            self.prefix + name: figure_of(metric, rows.right, self.decoded) for name, metric in metrics.items()
        }
        return self.figures

    def _prepare(self, model: Any) -> tuple[HeldOut, dict[str, Any], Callable]:
        """Return the rows, the metrics and the compiled function for a model, made once."""
        if self._of_model is None or self._of_model[0] is not model:
            rows = held_out(model, self.data, strategy=self.strategy, max_length=self.max_length, seed=self.seed)
            metrics = with_span_f1(self.metrics, model)
            check_metrics(metrics, rows.right)
            if not model.built:
                model.build()
            self._of_model = model, rows, metrics, _with_weights(model, rows.decode, self.jit_compile)
        return self._of_model[1:]


def _with_weights(model: Any, decode: Callable, jit_compile: bool) -> Callable[..., Mapping[str, Any]]:
    """Return `decode` as a function that is compiled once for each shape, and reads the present weights."""

    def pure(values: list, inputs: Any, lengths: Any) -> Mapping[str, Any]:
        with keras.StatelessScope(state_mapping=list(zip(model.weights, values, strict=True))):
            return decode(inputs, lengths)

    # A compiled function of JAX would keep the values of weights that it reads: they are arguments.
    run = backend.compiled(pure) if jit_compile else backend.as_graph(pure)

    def call(inputs: Any, lengths: np.ndarray) -> Mapping[str, Any]:
        tensors = keras.tree.map_structure(ops.convert_to_tensor, (inputs, lengths))
        return run([ops.convert_to_tensor(weight) for weight in model.weights], *tensors)

    return call
