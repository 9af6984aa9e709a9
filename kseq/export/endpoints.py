"""The functions behind the signatures of an exported model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tensorflow as tf

from kseq.export.example_signatures import example_functions
from kseq.export.inputs.reader import Reader
from kseq.export.options import ExportOptions
from kseq.export.padding import Padding, in_batches
from kseq.export.row_counts import check_rows
from kseq.export.row_errors import add_error, blank_rows
from kseq.export.step_signatures import START, STEP, StepSignatures
from kseq.export.text_outputs import TextOutputs
from kseq.export.windows import Windows
from kseq.models.export_contract import RowInputs, Serving, lengths_names

Answer = Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]


@dataclass(frozen=True)
class Endpoints:
    """Builds the functions from a request to the answer.

    Attributes:
        serving: The model's inputs and the function that answers them.
        readers: The readers that produce these inputs from a request.
        texts: The additional outputs of `serving_default` and `serving_xla`.
        buckets: Increasing lengths, in tokens or frames.
        batch_sizes: Increasing batch sizes of the compiled signature.
        options: The options of the export.
        report: Called with a line about each step of the work.
        further: The readers of the further signatures of `serving`, by their names.
    """

    serving: Serving
    readers: Sequence[Reader]
    texts: TextOutputs
    buckets: Sequence[int]
    batch_sizes: Sequence[int]
    options: ExportOptions
    report: Callable[[str], None] = lambda line: None
    further: Mapping[str, Sequence[Reader]] = field(default_factory=dict)

    def functions(self, model: Any) -> dict[str, Any]:
        """Return a traced `tf.function` for each signature of `model`, by the signature's name."""
        answer = self.serving.answer
        plain = self._bounded(answer)

        def compiled_answer(tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return answer(tensors)

        compiled = tf.function(compiled_answer, jit_compile=True, autograph=False, input_signature=[self._specs()])
        answers = {
            "serving_default": self._finished(plain),
            "serving_xla": self._finished(lambda tensors: in_batches(compiled, tensors, self.batch_sizes)),
        }
        functions = {name: self._traced(name, self._endpoint(of, self.texts)) for name, of in answers.items()}
        if self.serving.classify or self.serving.regress:
            functions |= example_functions(self.serving, self.readers, functions["serving_default"])
        for name, serving in self.serving.signatures.items():
            own = replace(self, serving=serving, readers=self.further[name], texts=TextOutputs(serving))
            functions[name] = own._traced(name, own._endpoint(serving.answer, own.texts))
        if self.options.one_step:
            signatures = StepSignatures(model)
            start = self._endpoint(signatures.start, TextOutputs(Serving(self.serving.inputs, answer)))
            functions[START] = self._traced(START, start)
            functions[STEP] = signatures.step_function(functions[START].get_concrete_function())
        return functions

    def _bounded(self, answer: Answer) -> Answer:
        """Return `answer` for a plain graph; windows of a long row are answered in batches, to bound the memory."""
        if self.serving.finish is None or self.options.too_long != "windows":
            return answer
        function = tf.function(answer, autograph=False, input_signature=[self._specs()])
        return lambda tensors: in_batches(function, tensors, self.batch_sizes[-1:], smaller=True)

    def _finished(self, answer: Answer) -> Answer:
        """Return `answer` for rows of any length, by windows if the export has them, and with the model's last part."""
        finish, inputs = self.serving.finish, self.serving.inputs
        if finish is None:
            return answer
        windows = (
            Windows(inputs, self.buckets[-1], len(self.buckets) == 1) if self.options.too_long == "windows" else None
        )
        told = next(iter(lengths_names(inputs).values()))

        def finished(tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            outputs = answer(tensors) if windows is None else windows.answer(answer, tensors)
            return finish(outputs, tensors[told])

        return finished

    def _specs(self) -> dict[str, tf.TensorSpec]:
        """Return the specs of the padded inputs by name."""
        specs, names = {}, lengths_names(self.serving.inputs)
        time = self.buckets[0] if len(self.buckets) == 1 else None
        for name, of in self.serving.inputs.items():
            if isinstance(of, RowInputs):
                specs[name] = tf.TensorSpec([None, *of.shape], of.dtype, name=name)
                continue
            axes = [time] * (of.axes - 1)
            specs[name] = tf.TensorSpec([None, *axes, *of.step_shape], of.dtype, name=name)
            specs[names[name]] = tf.TensorSpec([None, *axes[1:]], tf.int32, name=names[name])
        return specs

    def _endpoint(self, answer: Answer, texts: TextOutputs) -> Answer:
        """Return a function that reads and checks a request, answers it, and adds texts and errors to the answer."""
        padding = Padding(self.serving.inputs, self.buckets, self.options.too_long or "truncate")
        optional = {name for reader in self.readers for name in reader.optional}

        def endpoint(request: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            request = check_rows(request, optional)
            tensors: dict[str, tf.Tensor] = {}
            reasons = []
            for reader in self.readers:
                inputs, errors = reader.read(request)
                tensors |= inputs
                reasons.append(errors)
            errors = reasons[0]
            for more in reasons[1:]:
                errors = add_error(errors, more != "", more)
            padded, errors = padding(tensors, errors)
            first = next(iter(padding.steps), None)
            bucket = None if first is None else tf.shape(padded[first])[1]
            outputs = texts.add_to(answer(padded), request.get("text"), bucket)
            return blank_rows(outputs, errors, self.serving.padding)

        return endpoint

    def _traced(self, name: str, endpoint: Answer) -> Any:
        """Return a function that calls the traced endpoint, because saving would trace a function again."""
        self.report(f"tracing {name}")
        specs = [spec for reader in self.readers for spec in reader.specs()]

        def by_name(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
            return endpoint({str(spec.name): tensor for spec, tensor in zip(specs, tensors, strict=True)})

        traced = tf.function(by_name, autograph=False, input_signature=specs).get_concrete_function()
        function = tf.function(lambda *inputs: traced(*inputs), autograph=False, input_signature=specs)
        function.get_concrete_function()
        return function
