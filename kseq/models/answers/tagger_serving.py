"""The inputs and the answer of an exported tagger."""

from typing import Any

from keras import ops

from kseq.backend import Tensor
from kseq.masking import mask_from_lengths
from kseq.models.export_contract import Serving, ServingOptions, check_tokenizers
from kseq.tag_schemes import SpanRules, span_rules


def serving_of_tagger(model: Any, options: ServingOptions) -> Serving:
    """Return the `Serving` of a `Tagger`: from tokens, with a `WordEncoder` also their characters, to tags.

    Raises:
        ValueError: If an option does not apply to a tagger, a tokenizer or the class names do not fit the model, or
            the model has a scheme and the tokenizer does not tell the places of tokens.
    """
    options.refuse("Tagger", "strategy", "target", "max_length", "seed_input", "alignments")
    inputs = model.reads.in_requests()
    check_tokenizers(inputs, options.source)

    def logits(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"logits": model(model.reads.of_request(tensors), training=False)}

    def answer(outputs: dict[str, Tensor], lengths: Tensor) -> dict[str, Tensor]:
        mask = mask_from_lengths(lengths, ops.shape(outputs["logits"])[1])
        tags = model.decoder.tags(outputs["logits"], lengths)
        probabilities = model.decoder.probabilities(outputs["logits"], lengths)
        scores = ops.take_along_axis(probabilities, ops.maximum(tags, 0)[..., None], axis=-1)[..., 0]
        return {"tags": ops.where(mask, tags, -1), "scores": ops.where(mask, scores, 0.0)}

    return Serving(
        inputs,
        logits,
        padding={"tags": -1, "span_starts": -1, "span_ends": -1},
        named=("tags",),
        spelled="tokens",
        finish=answer,
        spans=_spans(model, options),
    )


def _spans(model: Any, options: ServingOptions) -> SpanRules | None:
    """Return where the spans of the tags lie, or None if the model has no scheme."""
    names = options.class_names
    if names is not None and len(names) != model.num_tags:
        raise ValueError(
            f"class_names has {len(names)} names, but the model has {model.num_tags} tags. Give one name for each tag, "
            "in the order of the ids."
        )
    if model.scheme is None:
        return None
    if names is not None and names != model.class_names:
        raise ValueError(
            f"class_names are {list(names)}, but scheme={model.scheme!r} of the model is about its own names, "
            f"{list(model.class_names)}. Leave class_names out."
        )
    source = options.source["tokens"] if isinstance(options.source, dict) else options.source
    if source is not None and not source.tells_places:
        raise ValueError(
            f"The model has scheme={model.scheme!r}, so its answer has spans with places in the text, but a "
            f"{type(source).__name__} does not tell places. Use a WordTokenizer or CharacterTokenizer, or define "
            "locate(text) in the class."
        )
    return span_rules(model.class_names, model.scheme)
