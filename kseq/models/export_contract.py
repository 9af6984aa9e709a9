"""The contract between a model and the export: its inputs, and the function that answers a request.

Any model with a method `serving(options) -> Serving` can be exported; the export knows no model class by name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from kseq.backend import Tensor
from kseq.tag_schemes import SpanRules


@dataclass(frozen=True)
class ServingOptions:
    """The arguments of `kseq.export_saved_model` that concern the model.

    Attributes:
        strategy: Decoding strategy; None for the model's default.
        source: Tokenizer of the inputs, a mapping from names of inputs to tokenizers, or None.
        target: Tokenizer of the outputs, or None.
        max_length: Largest number of tokens to write; None for the model's default.
        longest: Largest number of steps in a row of the inputs.
        seed_input: Whether requests contain a seed for each row.
        alignments: Whether the answer must contain `alignments`, float `(batch, n, time, steps)`: they are sent to the
            client, or used to replace unknown tokens.
        class_names: Names of the classes, or None.
    """

    strategy: Callable[..., Any] | None
    source: Any
    target: Any
    max_length: int | None
    longest: int
    seed_input: bool = False
    alignments: bool = False
    class_names: tuple[str, ...] | None = None

    def refuse(self, model: str, *names: str) -> None:
        """Raise ValueError if one of the options `names` was given, although `model` has no use for it."""
        if given := [f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name) not in (None, False)]:
            shown = ", ".join(given).replace("alignments=True", "alignments=True or replace_unknown=True")
            raise ValueError(f"{shown}: a {model} has no use for it. Leave it out.")


@dataclass(frozen=True, kw_only=True)
class StepInputs:
    """Padded sequences `(batch, time, *step_shape)` of a request, and their lengths, int32 `(batch,)`.

    A sequence of sequences, such as the characters of words, names the sequence whose steps it describes in `steps_of`.
    It is `(batch, time, inner time, *step_shape)`, and its lengths are int32 `(batch, time)`.

    Attributes:
        dtype: Dtype of the steps.
        step_shape: Shape of one step: `()` for a token, `(features,)` for a frame.
        pad_value: Value of the padding.
        vocabulary_size: The steps are token ids in `[0, vocabulary_size)`; None if they are not tokens.
        steps_of: Name of the input whose steps are described, each by a sequence of its own; None for a plain sequence.
        may_be_cut: Whether rows longer than the largest bucket are cut if the export has `too_long="truncate"`. False:
            they are refused, as with "error". None: they are cut unless the input is called `prompt`, whose end is what
            a model goes on from.
        fewest: Smallest number of steps in a row of a plain sequence; rows with fewer are refused.
        lengths_of: Name of a plain sequence before this one, which has as many steps: a request then has one length for
            both. None: the sequence has lengths of its own.
        lowest: Smallest allowed value of a real step; None for no limit.
        highest: Largest allowed value of a real step; None for no limit.
        whole: Whether the values of real steps must be whole numbers.
        may_be_nan: Whether the values of real steps may be NaN, which then stands for a missing value.
        refusals: Further reasons why a row is refused: pairs of a reason, a sentence, and a function `(values, lengths)
            -> bool (batch,)` of `keras.ops` that tells which rows it applies to, for `values` `(batch, time, ...)`.
    """

    dtype: str
    step_shape: tuple[Any, ...] = ()
    pad_value: float = 0
    vocabulary_size: int | None = None
    steps_of: str | None = None
    may_be_cut: bool | None = None
    fewest: int = 0
    lengths_of: str | None = None
    lowest: float | None = None
    highest: float | None = None
    whole: bool = False
    may_be_nan: bool = False
    refusals: tuple[tuple[str, Callable[[Tensor, Tensor], Tensor]], ...] = ()

    def is_cut(self, name: str, too_long: str) -> bool:
        """Return whether long rows of the input `name` are cut, in an export with the option `too_long`.

        With "windows" only inner sequences are cut; the others are read by windows.
        """
        may_be_cut = name != "prompt" if self.may_be_cut is None else self.may_be_cut
        return may_be_cut and too_long != "error"

    @property
    def axes(self) -> int:
        """Number of axes before those of a step: 2, or 3 for a sequence of sequences."""
        return 2 if self.steps_of is None else 3


@dataclass(frozen=True, kw_only=True)
class RowInputs:
    """An input with one value per row, `(batch, *shape)`: a seed, another option of the request, or an image.

    Attributes:
        dtype: Dtype of the values.
        shape: Shape of a row's value; None for an axis of any size.
        lowest: Smallest allowed value; None for no limit.
        highest: Largest allowed value, or one for each value of a vector; None for no limit.
        default: Value in warm-up requests, and in place of a value that is out of range.
        optional: Whether a request may leave the input out, as it may leave out lengths; all rows then have the
            default. Only for single values, of shape `()`.
    """

    dtype: str
    shape: tuple[Any, ...] = ()
    lowest: float | None = None
    highest: float | tuple[float, ...] | None = None
    default: float = 0
    optional: bool = False

    def __post_init__(self) -> None:
        if self.dtype == "string":
            raise ValueError("RowInputs cannot be strings, which XLA does not compile. Give numbers or booleans.")
        if self.optional and self.shape:
            raise ValueError(
                f"RowInputs of shape {self.shape} cannot be optional. Only single values, of shape (), can."
            )


Inputs = Mapping[str, StepInputs | RowInputs]


@dataclass(frozen=True)
class Serving:
    """The inputs of an exported model and the function that answers them.

    Attributes:
        inputs: `StepInputs` and `RowInputs` by their names in the request. The lengths of a model's only `StepInputs`
            are called `lengths`; if there are several, `NAME_lengths`. A `source` tokenizer produces tokens from
            `text`.
        answer: A pure function `({name: tensor}) -> {name: tensor (batch, ...)}` that XLA can compile and whose rows
            are independent. It gets the inputs and their lengths by the names above. All sequences are padded to one
            bucket, and beyond a row's length they hold `pad_value`; the inner axis of a sequence of sequences is padded
            to a bucket of its own. A row that is refused arrives with length 0, and a row whose answer contains NaN is
            reported as failed. With a `target` tokenizer, the export adds `text` from `tokens`, int32 `(batch, n,
            time)`.
        padding: Values of int outputs in rows that are refused, by output name; 0 for other names.
        named: Names of int outputs that contain class ids. If the export has class names, they take the place of the
            ids, and the empty text that of negative ids.
        spelled: Name of the output in which the export returns the tokens of a `source` tokenizer as strings, `(batch,
            bucket)`, empty in the padding; None for no such output.
        finish: A function `(outputs, lengths) -> outputs` of what `answer` returns, `(batch, time, ...)`, and of the
            lengths of the first sequence, for models whose answer has a value for each step. Rows longer than the
            largest bucket are then not cut: `answer` gets overlapping windows of them, and `finish` the outputs of
            whole rows, of any number of steps. It runs in the plain graph in both signatures. None: `answer` returns
            the answer.
        spans: Where the spans of the output `tags` lie. The answer then contains them, as byte offsets into the text,
            or as places of tokens. None: no spans.
        classify: Names of the outputs with the classes, int ids or strings `(batch, n)`, and with their scores, float
            `(batch, n)`, that TensorFlow Serving's Classify returns; None for no signature `serving_classify`.
        regress: Name of the output float `(batch,)` or `(batch, 1)` that TensorFlow Serving's Regress returns; None for
            no signature `serving_regress`.
        copies: Whether token ids beyond the target's vocabulary are copies of source tokens, by their positions.
        signatures: Further signatures of the export by name, such as "serving_log_probability", each with inputs and an
            answer of its own, in a plain graph.

    Example: a model that adds up the values of a sequence, and multiplies the sum by a factor from the request.

        class Adding(keras.Model):
            def build(self, shape=None):
                self.bias = self.add_weight(shape=(), initializer="zeros")
                self.built = True

            def call(self, values, mask):
                return keras.ops.sum(keras.ops.where(mask, values, 0.0), axis=1) + self.bias

            def serving(self, options):
                def answer(inputs):
                    values, lengths = inputs["values"], inputs["lengths"]
                    mask = kseq.masking.mask_from_lengths(lengths, keras.ops.shape(values)[1])
                    return {"sum": self(values, mask) * inputs["factor"]}

                options.refuse("Adding", "strategy", "source", "target", "max_length", "seed_input", "alignments")
                values = kseq.models.StepInputs(dtype="float32")
                factor = kseq.models.RowInputs(dtype="float32", lowest=0, highest=100, default=1)
                return kseq.models.Serving({"values": values, "factor": factor}, answer)

        kseq.export_saved_model(Adding(), "models/adding")
        kseq.load_saved_model("models/adding")(values=[[1, 2, 9]], lengths=[2], factor=[10])["sum"]  # [30.]
    """

    inputs: Inputs
    answer: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    padding: Mapping[str, int] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    spelled: str | None = None
    finish: Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]] | None = None
    spans: SpanRules | None = None
    classify: tuple[str, str] | None = None
    regress: str | None = None
    copies: bool = False
    signatures: Mapping[str, "Serving"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.inputs, Mapping):
            raise TypeError(
                f"Serving.inputs is a {type(self.inputs).__name__}, but it must be a mapping of names to StepInputs "
                'and RowInputs, such as {"tokens": StepInputs(dtype="int32")}.'
            )
        names = [*self.inputs, *set(lengths_names(self.inputs).values())]
        for name, inputs in self.inputs.items():
            if names.count(name) > 1:
                raise ValueError(f"The input {name!r} has the name of the lengths of another input. Rename it.")
            parent = getattr(inputs, "steps_of", None)
            if parent is not None and getattr(self.inputs.get(parent), "axes", 0) != 2:
                raise ValueError(
                    f"The input {name!r} has steps_of={parent!r}, which must be the name of a plain sequence, but the "
                    f"inputs are {sorted(self.inputs)}."
                )
            shared = getattr(inputs, "lengths_of", None)
            before = [*self.inputs][: [*self.inputs].index(name)]
            if shared is not None and (shared not in before or getattr(self.inputs[shared], "axes", 0) != 2):
                raise ValueError(
                    f"The input {name!r} has lengths_of={shared!r}, which must be the name of a plain sequence before "
                    f"it, but these are {before}."
                )


def refuse_keras_export(model: Any) -> NoReturn:
    """Raise the ValueError of Keras's `model.export(path)`, which would not export the model's answer."""
    raise ValueError(
        f"Keras's export(...) writes what a model's call returns, of inputs of a given input_signature, but a "
        f"{type(model).__name__} is served with the answer to a request. Use kseq.export_saved_model(model, path), "
        "which also writes tokenizers and the files that a server needs."
    )


def lengths_names(inputs: Inputs) -> dict[str, str]:
    """Return the name of the lengths of each `StepInputs`, by the name of the sequence; some may share one."""
    sequences = [name for name, of_name in inputs.items() if isinstance(of_name, StepInputs)]
    shared = {name: getattr(inputs[name], "lengths_of", None) for name in sequences}
    own = [name for name in sequences if shared[name] is None]
    names = {name: "lengths" if len(own) == 1 else f"{name}_lengths" for name in own}
    return {name: names.get(shared[name] or name, f"{name}_lengths") for name in sequences}


def sample_request(inputs: Inputs, names: Mapping[str, str], size: int, length: int) -> dict[str, np.ndarray]:
    """Return a request of `size` rows with sequences of `length` steps; inner sequences have 1 step.

    Args:
        inputs: The inputs by name.
        names: Names of their lengths.
        size: Number of rows.
        length: Number of steps.
    """
    request = {}
    for name, of_name in inputs.items():
        if isinstance(of_name, RowInputs):
            shape = [length if axis is None else axis for axis in of_name.shape]
            request[name] = np.full((size, *shape), of_name.default, of_name.dtype)
            continue
        time = (length,) if of_name.steps_of is None else (length, 1)
        step = [length if axis is None else axis for axis in of_name.step_shape]
        request[name] = np.zeros((size, *time, *step), of_name.dtype)
        request[names[name]] = np.full((size, *time[:-1]), time[-1], "int32")
    return request


def check_tokenizers(inputs: Inputs, source: Any) -> None:
    """Raise ValueError if a tokenizer of the inputs has ids that the model does not know.

    Args:
        inputs: The inputs by name.
        source: A tokenizer of the first sequence, a mapping from names to tokenizers, or None.
    """
    first = next((name for name, of_name in inputs.items() if isinstance(of_name, StepInputs)), None)
    tokenizers = source if isinstance(source, Mapping) else {first: source}
    for name, tokenizer in tokenizers.items():
        known = getattr(inputs.get(name or ""), "vocabulary_size", None)
        if tokenizer is not None and known is not None and tokenizer.vocabulary_size > known:
            raise ValueError(
                f"The source tokenizer has {tokenizer.vocabulary_size} ids, but the model reads {known}. Use the "
                "tokenizer that the model was trained with."
            )
