"""The options of an export: the contents of requests and answers, and the files beside the model."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, get_args

from kseq.export.padding import TooLong


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Options of `kseq.export_saved_model` that most exports leave at their defaults.

    Attributes:
        too_long: Treatment of a row with more tokens or frames than the largest bucket. "truncate" cuts it to the
            bucket, at the end unless the tokenizer's `truncation` is "start", and keeps begin and end tokens; "error"
            refuses the row, and says so in its `error`. Inputs that may not be cut, such as a `prompt`, are refused in
            both cases, see `kseq.models.StepInputs`. "windows" reads the row in overlapping windows of the largest
            bucket's length, for models that answer each step, such as a `kseq.models.Tagger`. None: "windows" for
            these models, "truncate" for others.
        seed_input: Whether requests contain `seed`, int64 `(batch,)`. A strategy that draws random numbers then gives
            equal answers to equal rows with equal seeds; without it, every request has another seed.
        replace_unknown: Whether unknown tokens in `text` are replaced by the source token with the most attention, see
            `kseq.text.replace_unknown`. Needs both tokenizers and a model with attention.
        alignments: Whether answers contain `alignments`, float32 `(batch, n, max_length, bucket)`, the attention of
            each target token, which the playground of `kseq-serve` draws. With a `source` tokenizer they also contain
            `source_tokens`, string `(batch, bucket)`, with a `target` tokenizer `target_tokens`, string `(batch, n,
            max_length)`, both empty in the padding. Needs a model with attention.
        one_step: Whether to add the signatures `serving_start` and `serving_step`, for clients that run the decoding
            loop themselves and send the state in each request, see `kseq.export.step_signatures`. Not for recognizers.
            Servers must not batch such a model, so no `batching.config` is written; rows whose states a server pads all
            the same are refused.
        warmup: Whether to write `assets.extra/tf_serving_warmup_requests`, with a request to `serving_default` for each
            bucket and batch size, which a server runs when it loads the model. None of them is to `serving_xla`: on a
            server without XLA it would fail, and the load with it.
        serving_config: Whether to write `models.config`, `batching.config`, `monitoring.config` and `serve.sh` beside
            the versions. The model's name in them is the name of its base folder.
        title: Title of the model's page in the playground of `kseq-serve`.
        description: Text of that page: what the model does, in a sentence or two.
        examples: Example requests on that page, each of one row: a text or another single input, or a mapping from
            names of inputs to values. Bytes are files. A list of examples, or a mapping that gives each a name for its
            button: `{"French": "3 mai 1979"}`.
        verbose: Whether to print a line about each step of the export; never if Keras's interactive logging is off.

    Raises:
        ValueError: If `too_long` is not one of these, or `examples` is a single text, or has a name that is no text or
            empty.

    Example:
        >>> options = kseq.ExportOptions(alignments=True, warmup=False)
        >>> kseq.export_saved_model(model, "models/g2p", strategy=beam, source=source, target=target, options=options)
    """

    too_long: TooLong | None = None
    seed_input: bool = False
    replace_unknown: bool = False
    alignments: bool = False
    one_step: bool = False
    warmup: bool = True
    serving_config: bool = True
    title: str | None = None
    description: str | None = None
    examples: Sequence[Any] | Mapping[str, Any] = ()
    verbose: bool = True

    def __post_init__(self) -> None:
        if self.too_long is not None and self.too_long not in get_args(TooLong):
            raise ValueError(f"too_long={self.too_long!r}, but it must be one of {get_args(TooLong)}.")
        if isinstance(self.examples, str | bytes):
            raise ValueError(f"examples={self.examples!r}, but they must be a list of examples, or a mapping of names.")
        if isinstance(self.examples, Mapping):
            for name in self.examples:
                if not isinstance(name, str) or not name.strip():
                    raise ValueError(f"examples has the name {name!r}, but a name is a text that is not empty.")


class ExportSwitches(TypedDict, total=False):
    """The fields of `ExportOptions` as keywords of a call."""

    too_long: TooLong | None
    seed_input: bool
    replace_unknown: bool
    alignments: bool
    one_step: bool
    warmup: bool
    serving_config: bool
    title: str | None
    description: str | None
    examples: Sequence[Any] | Mapping[str, Any]
    verbose: bool


def with_switches(
    options: ExportOptions | None, switches: ExportSwitches, arguments: Iterable[str] = ()
) -> ExportOptions:
    """Return `options`, or the default ones, with the fields in `switches` replaced.

    Args:
        options: The options, or None.
        switches: The fields to replace.
        arguments: The other arguments of the call, of which a key may be a misspelling.

    Raises:
        TypeError: If a key of `switches` is not a field.
    """
    names = [field.name for field in dataclasses.fields(ExportOptions)]
    if unknown := sorted(set(switches) - set(names)):
        known = [*arguments, *names]
        likely = [close for name in unknown for close in difflib.get_close_matches(name, known, n=1)]
        hint = f"Did you mean {likely}? " if likely else ""
        raise TypeError(
            f"export_saved_model got unknown arguments {unknown}. {hint}The fields of ExportOptions are {names}."
        )
    return dataclasses.replace(options or ExportOptions(), **switches)
