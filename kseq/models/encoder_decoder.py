"""The decoding and serving shared by all encoder-decoder models."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kseq.backend import Tensor, without_autograph
from kseq.decoding import Decoded, GreedySearch, get_strategy
from kseq.decoding.names import check_call
from kseq.ids import with_nan
from kseq.models.export_contract import RowInputs, Serving, ServingOptions, check_tokenizers
from kseq.models.inputs.row_arrays import stacked
from kseq.models.inputs.source_inputs import ArraySource, source_of
from kseq.models.inputs.text_batches import best_texts, check_n_best, map_rows, one_or_many, tokenizer_of
from kseq.numbers import whole


class EncoderDecoder:
    """Mixin for models with `encode` and `step`: adds decoding by any strategy of `kseq.decoding`, and export.

    Attributes:
        bos_id: Id of the token that begins a target.
        eos_id: Id of the token that ends a target.
        pad_id: Id of the padding.
        source_subsampling: Number of source tokens for each step that the attention chooses from.
        source_shape: Shape of a row of the source, if that is an array of numbers; None for tokens.
        source_tokenizer: The tokenizer of the sources, or None.
        target_tokenizer: The tokenizer of the targets, or None.
    """

    bos_id: int
    eos_id: int
    pad_id: int
    source_vocabulary_size: Any  # int, a property of the models; None if the source is no tokens
    target_vocabulary_size: Any
    source_subsampling: Any = 1  # int
    source_shape: Any = None
    source_tokenizer: Any = None
    target_tokenizer: Any = None

    @property
    def copies(self) -> bool:
        """Whether token ids beyond the target's vocabulary are copies of source tokens."""
        return False

    @property
    def num_target_ids(self) -> int:
        """Number of ids that a target may have: those of the vocabulary, and of copied tokens."""
        return self.target_vocabulary_size

    def encode(self, source: Tensor, source_lengths: Tensor | None = None) -> tuple[Any, Any]:
        """Return the initial state and the memory.

        Args:
            source: int `(batch, time)`; or, of a model with a `source_shape`, float `(batch, *source_shape)`.
            source_lengths: int `(batch,)`; None for arrays.
        """
        raise NotImplementedError(f"{type(self).__name__} must define encode(source, source_lengths).")

    def with_room(self, state: Any, max_length: int | None) -> Any:
        """Return an initial state with room for `max_length` tokens, if the decoder has a cache; else the state."""
        return state

    def step(self, tokens: Tensor, state: Any, memory: Any) -> Any:
        """Return a decoding step's `(logits, state)` for every hypothesis, see `kseq.decoding`."""
        raise NotImplementedError(f"{type(self).__name__} must define step(tokens, state, memory).")

    @without_autograph
    def decode(
        self,
        source: Any,
        source_lengths: Any = None,
        *,
        strategy: str | Callable[..., Decoded],
        max_length: int,
        **call: Any,
    ) -> Decoded:
        """Decode the target of each source.

        Args:
            source: int `(batch, time)`; or a list of rows of ids, or a RaggedTensor. Of a model that reads arrays, such
                as pictures, numbers `(batch, *source_shape)`, or a list of such arrays.
            source_lengths: int `(batch,)`; None for a list or RaggedTensor, and for arrays of numbers. Without them the
                rows of an array of ids end before their trailing `pad_id`.
            strategy: A strategy of `kseq.decoding`, such as `BeamSearch(beam_width=4)`, or its name, such as "greedy",
                "beam" or "sampling"; see `kseq.decoding.get_strategy`.
            max_length: Largest number of tokens in a target, end token included.
            **call: Other arguments of the strategy's call: `prompt`, `prompt_lengths`, `score_prompt`, `seed`;
                `source_mask`, by default the source's real positions; and `bos_id`, `eos_id` and `pad_id`, by default
                the model's own.

        Returns:
            The strategy's `Decoded`. The method is pure: it can be compiled by `tf.function(..., jit_compile=True)` or
            `jax.jit`; a row with an id outside the vocabulary, a length that does not fit, or NaN in its array then has
            the score NaN.

        Raises:
            TypeError: If `strategy` is no strategy, such as a class, None or a decoder of CTC, or has no such argument.
            ValueError: If no strategy has this name, an option is out of range, or an array does not fit; outside
                compiled functions also if an id or length is out of range.
        """
        found = get_strategy(strategy)
        check_call(found, call)
        reads = source_of(self)
        rows = reads.read(*reads.completed(source, source_lengths))
        state, memory = self.encode(rows.ids, rows.lengths)
        state = self.with_room(state, max_length)
        if getattr(found, "coverage_penalty", 0) and call.get("source_mask") is None:
            call["source_mask"] = reads.mask(rows)
        ids = {"bos_id": self.bos_id, "eos_id": self.eos_id, "pad_id": self.pad_id}
        decoded = found(self.step, state, memory=memory, max_length=max_length, **(ids | call))
        return decoded._replace(scores=with_nan(decoded.scores, rows.valid))

    def translate(
        self,
        texts: str | Sequence[str],
        *,
        strategy: str | Callable[..., Decoded] = "greedy",
        max_length: int | None = None,
        n_best: bool = False,
    ) -> Any:
        """Return the decoded text of each text, by the model's tokenizers.

        The answer to a text does not depend on the other texts. Other arguments, and the tokens and attention behind
        the texts, are those of `decode`.

        Args:
            texts: A list of texts, or a single one.
            strategy: As in `decode`.
            max_length: Largest number of tokens in an answer, end token included. None: twice the number of tokens of
                the text, rounded up to a power of two, and at least 16.
            n_best: Whether to return all texts that the strategy finds with their scores. Several need a strategy that
                finds several, such as `kseq.decoding.BeamSearch(top_paths=3)`.

        Returns:
            A list of str; with `n_best` a list of lists of `(text, score)`, best first. For a single text, its item
            of the list.

        Raises:
            ValueError: If `n_best` is no bool, the model has no tokenizers, or they do not fit the model.

        Example:
            >>> model.translate(["loup"], strategy="beam")
            ['l u']
        """
        check_n_best(n_best, "kseq.decoding.BeamSearch(top_paths=3)")
        if self.source_shape is not None:
            raise ValueError(f"translate reads texts, but this model reads arrays {self.source_shape}: call describe.")
        source = tokenizer_of(self, "source_tokenizer", "translate")
        target = tokenizer_of(self, "target_tokenizer", "translate")
        check_model_tokenizers(self, source, target)
        texts, single = one_or_many(texts, (str, bytes))
        ids, lengths = (value.numpy() for value in source(texts)) if texts else ([], [])
        places = [np.full_like(row, place) for place, row in enumerate(ids)]  # of each token's text among the texts
        rows = [np.stack([row, of], axis=1)[:length] for row, of, length in zip(ids, places, lengths, strict=True)]
        strings = source.strings(texts).numpy() if texts and self.copies else None

        def answer(values: np.ndarray, lengths: np.ndarray) -> list:
            most = max(16, 2 * values.shape[1]) if max_length is None else max_length
            decoded = self.decode(values[:, :, 0], lengths, strategy=strategy, max_length=most)
            copied = None if strings is None else strings[values[:, :1, 1].max(axis=1, initial=0)]
            return best_texts(target, decoded.tokens, decoded.scores, n_best, copied)

        answers = map_rows(answer, rows, "int32")
        return answers[0] if single else answers

    def describe(
        self,
        arrays: Any,
        *,
        strategy: str | Callable[..., Decoded] = "greedy",
        max_length: int | None = None,
        n_best: bool = False,
    ) -> Any:
        """Return the decoded text for each array, such as a picture's caption, by the model's target tokenizer.

        The answer to an array does not depend on the other arrays.

        Args:
            arrays: Numbers `(n, *source_shape)`, or a list of arrays of that shape; or a single one.
            strategy: As in `decode`.
            max_length: Largest number of tokens in an answer, end token included. None: 64.
            n_best: As in `translate`.

        Returns:
            A list of str; with `n_best` a list of lists of `(text, score)`, best first. For a single array, its item
            of the list.

        Raises:
            ValueError: If the model reads tokens or has no target tokenizer, `n_best` is no bool, or an array has
                another shape or a value that is not finite.

        Example:
            >>> model.describe(picture, strategy="beam")
            'a red circle left of two blue squares'
        """
        check_n_best(n_best, "kseq.decoding.BeamSearch(top_paths=3)")
        reads = source_of(self)
        if not isinstance(reads, ArraySource):
            raise ValueError(f"describe reads arrays, but this {type(self).__name__} reads tokens: call translate.")
        target = tokenizer_of(self, "target_tokenizer", "describe")
        check_model_tokenizers(self, None, target)
        single = not isinstance(arrays, list | tuple) and np.ndim(arrays) == len(reads.shape)
        rows = stacked([arrays] if single else arrays, reads.shape)
        reads.read(rows)  # checks the values before they are converted
        most = reads.longest_text(0) if max_length is None else max_length

        def answer(values: np.ndarray, lengths: np.ndarray) -> list:
            decoded = self.decode(values, strategy=strategy, max_length=most)
            return best_texts(target, decoded.tokens, decoded.scores, n_best)

        answers = map_rows(answer, list(rows), "float32", pad=False)
        return answers[0] if single else answers

    def serving_defaults(self) -> dict[str, Any]:
        """Return the tokenizers with which the model is exported if the call gives none."""
        return {"source": self.source_tokenizer, "target": self.target_tokenizer}

    def serving(self, options: ServingOptions) -> Serving:
        """Return the inputs and the function of the exported model: from tokens or arrays to tokens."""
        return serving_of_decoder(self, options)


def serving_of_decoder(model: Any, options: ServingOptions) -> Serving:
    """Return the `Serving` of a model that decodes tokens from tokens, or from arrays.

    Args:
        model: Has `decode(source, source_lengths, strategy=..., max_length=...) -> Decoded`, `pad_id`, `bos_id`,
            `eos_id`, `source_vocabulary_size` and `target_vocabulary_size`, as `kseq.models.Seq2Seq` does; and a
            `source_shape`, if it reads arrays.
        options: Options of the export. The default strategy is greedy search, the default `max_length` twice the
            longest input, for arrays 64.

    Raises:
        ValueError: If a tokenizer does not fit the model, or `seed_input` is used with a strategy that draws no random
            numbers.
    """
    options.refuse(type(model).__name__, "class_names")
    check_model_tokenizers(model, options.source, options.target)
    copies = getattr(model, "copies", False)
    if copies and options.target is not None and options.source is None:
        raise ValueError(
            "The model copies source tokens, which its texts contain as the source spells them: give both tokenizers, "
            "source and target."
        )
    strategy = GreedySearch() if options.strategy is None else get_strategy(options.strategy)
    if options.seed_input and not getattr(strategy, "draws", False):
        raise ValueError(
            f"seed_input=True needs a strategy that draws random numbers, such as kseq.decoding.Sampling(), but got "
            f"{strategy!r}."
        )
    reads = source_of(model)
    every = getattr(model, "source_subsampling", 1)
    if options.alignments and every != 1:
        raise ValueError(
            f"alignments=True and replace_unknown=True need an alignment to each source token, but the encoder of this "
            f"model has one step for every {every} of them. Leave them out, or train with another encoder."
        )
    max_length = reads.longest_text(options.longest) if options.max_length is None else options.max_length

    def answer(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        call = {"seed": inputs["seed"]} if options.seed_input else {}
        decoded = model.decode(*reads.of_request(inputs), strategy=strategy, max_length=max_length, **call)
        outputs = {"tokens": decoded.tokens, "lengths": decoded.lengths, "scores": decoded.scores}
        if not options.alignments:
            return outputs
        if decoded.alignments is None:
            raise ValueError(
                "replace_unknown=True and alignments=True need a model with attention, but this model's steps return "
                "no alignments."
            )
        return {**outputs, "alignments": decoded.alignments}

    seed = {"seed": RowInputs(dtype="int64")} if options.seed_input else {}
    return Serving({**reads.in_requests(), **seed}, answer, padding={"tokens": model.pad_id}, copies=copies)


def check_model_tokenizers(model: Any, source: Any, target: Any) -> None:
    """Raise ValueError if a tokenizer, where there is one, does not fit the model's vocabularies."""
    reads = source_of(model)
    if isinstance(reads, ArraySource) and source is not None:
        raise ValueError(f"source is a tokenizer, but the model reads arrays of shape {reads.shape}. Leave it out.")
    check_tokenizers(reads.in_requests(), source)
    if target is None:
        return
    of_model = {"vocabulary_size": model.target_vocabulary_size, "bos_id": model.bos_id, "eos_id": model.eos_id}
    of_tokenizer = {name: getattr(target, name) for name in of_model}
    if of_model != of_tokenizer:
        raise ValueError(
            f"The target tokenizer has {of_tokenizer}, but the model has {of_model}. Use the tokenizer that the "
            "model was trained with."
        )


def special_id(name: str, given: Any, tokenizer: Any, *, default: int) -> int:
    """Return the id of a special token: the `given` one, else the attribute `name` of the tokenizer, else `default`."""
    if given is None:
        given = default if tokenizer is None else getattr(tokenizer, name)
    return whole(name, given)
