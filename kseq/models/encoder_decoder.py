"""The decoding and serving shared by all encoder-decoder models."""

from collections.abc import Callable
from typing import Any

from keras import ops

from kseq.backend import Tensor
from kseq.decoding import Decoded, GreedySearch, get_strategy
from kseq.masking import mask_from_lengths
from kseq.models.export_contract import Serving, ServingOptions, StepInputs


class EncoderDecoder:
    """Mixin for models with `encode` and `step`: adds decoding by any strategy of `kseq.decoding`, and export.

    Attributes:
        bos_id: Id of the token that begins a target.
        eos_id: Id of the token that ends a target.
        pad_id: Id of the padding.
    """

    bos_id: int
    eos_id: int
    pad_id: int

    def encode(self, source: Tensor, source_lengths: Tensor) -> tuple[Any, Any]:
        """Return the initial state and the memory for `source` `(batch, time)` and its lengths, int `(batch,)`."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(source, source_lengths).")

    def step(self, tokens: Tensor, state: Any, memory: Any) -> Any:
        """Return a decoding step's `(logits, state)` for every hypothesis, see `kseq.decoding`."""
        raise NotImplementedError(f"{type(self).__name__} must define step(tokens, state, memory).")

    def decode(
        self,
        source: Tensor,
        source_lengths: Tensor,
        *,
        strategy: str | Callable[..., Decoded],
        max_length: int,
        **call: Any,
    ) -> Decoded:
        """Decode the target of each source.

        Args:
            source: int `(batch, time)`.
            source_lengths: int `(batch,)`.
            strategy: A strategy of `kseq.decoding`, such as `BeamSearch(beam_width=4)`, or its name, such as "greedy",
                "beam" or "sampling"; see `kseq.decoding.get_strategy`.
            max_length: Largest number of tokens in a target, end token included.
            **call: Other arguments of the strategy's call: `prompt`, `prompt_lengths`, `score_prompt`, `seed`, and
                `source_mask`, by default the source's real positions.

        Returns:
            The strategy's `Decoded`. The method is pure: it can be compiled by `tf.function(..., jit_compile=True)` or
            `jax.jit`.

        Raises:
            ValueError: If no strategy has this name, or an option is out of range.
            TypeError: If `strategy` is no strategy, such as a class, None or a decoder of CTC.
        """
        found = get_strategy(strategy)
        state, memory = self.encode(source, source_lengths)
        if getattr(found, "coverage_penalty", 0) and call.get("source_mask") is None:
            # An encoder pads a batch of empty texts to one step.
            time = 1 if source.shape[1] == 0 else ops.shape(source)[1]
            call["source_mask"] = mask_from_lengths(source_lengths, time)
        return found(
            self.step,
            state,
            memory=memory,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            pad_id=self.pad_id,
            max_length=max_length,
            **call,
        )

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model: from tokens to tokens."""
        return serving_of_decoder(self, options)


def serving_of_decoder(model: Any, options: ServingOptions) -> Serving:
    """Return the `Serving` of a model that decodes tokens from tokens.

    Args:
        model: Has `decode(source, source_lengths, strategy=..., max_length=...) -> Decoded`, `pad_id`, `bos_id`,
            `eos_id`, `source_vocabulary_size` and `target_vocabulary_size`, as `kseq.models.Seq2Seq` does.
        options: Options of the export. The default strategy is greedy search, the default `max_length` twice the
            longest input.

    Raises:
        ValueError: If a tokenizer does not fit the model, or `seed_input` is used with a strategy that draws no random
            numbers.
    """
    _check_tokenizers(model, options.source, options.target)
    strategy = GreedySearch() if options.strategy is None else get_strategy(options.strategy)
    if options.seed_input and not getattr(strategy, "draws", False):
        raise ValueError(
            f"seed_input=True needs a strategy that draws random numbers, such as kseq.decoding.Sampling(), but got "
            f"{strategy!r}."
        )
    max_length = 2 * options.longest if options.max_length is None else options.max_length

    def answer(steps: Tensor, lengths: Tensor, *seed: Tensor) -> dict[str, Tensor]:
        call = {"seed": seed[0]} if seed else {}
        decoded = model.decode(steps, lengths, strategy=strategy, max_length=max_length, **call)
        outputs = {"tokens": decoded.tokens, "lengths": decoded.lengths, "scores": decoded.scores}
        if not options.alignments:
            return outputs
        if decoded.alignments is None:
            raise ValueError(
                "replace_unknown=True and alignments=True need a model with attention, but this model's steps return "
                "no alignments."
            )
        return {**outputs, "alignments": decoded.alignments}

    size = model.source_vocabulary_size
    return Serving(StepInputs(name="tokens", dtype="int32", pad_value=model.pad_id, vocabulary_size=size), answer)


def _check_tokenizers(model: Any, source: Any, target: Any) -> None:
    if source is not None and source.vocabulary_size > model.source_vocabulary_size:
        raise ValueError(
            f"The source tokenizer has {source.vocabulary_size} ids, but the model reads "
            f"{model.source_vocabulary_size}. Export with the tokenizer that the model was trained with."
        )
    if target is None:
        return
    of_model = {"vocabulary_size": model.target_vocabulary_size, "bos_id": model.bos_id, "eos_id": model.eos_id}
    of_tokenizer = {name: getattr(target, name) for name in of_model}
    if of_model != of_tokenizer:
        raise ValueError(
            f"The target tokenizer has {of_tokenizer}, but the model has {of_model}. Export with the tokenizer that "
            "the model was trained with."
        )
