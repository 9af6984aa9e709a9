"""Writing of texts by language models: from a prompt, by any strategy, at once or token by token."""

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor, fresh_seed, known_value, without_autograph
from kseq.decoding import Decoded, StepOutput, TokenStreaming, get_strategy
from kseq.decoding.checks import batch_of, shapes_fit
from kseq.decoding.names import check_call
from kseq.decoding.prompt import Prompt
from kseq.ids import with_nan
from kseq.models.inputs.text_batches import best_texts, check_n_best, rows_of_ids, tokenizer_of
from kseq.numbers import positive_int, whole

REPLACEMENT = "\ufffd"  # stands for bytes that are no character


class TextGeneration:
    """Mixin for models with `initial_state` and `step`: adds writing from a prompt by any strategy of `kseq.decoding`.

    Attributes:
        bos_id: Id of the token that begins a text; None: a text begins with the first token of its prompt.
        eos_id: Id of the token that ends a text.
        pad_id: Id of the padding.
        vocabulary_size: Number of token ids.
        tokenizer: The tokenizer of the texts, or None.
    """

    bos_id: int | None
    eos_id: int
    pad_id: int
    vocabulary_size: Any  # int, a property of the models
    tokenizer: Any = None
    _streaming: Any = None  # the `TokenStreaming` of the last call of `stream`

    def initial_state(self, batch: int | Tensor, max_length: int | None = None) -> Any:
        """Return the state before the first token of `batch` texts."""
        raise NotImplementedError(f"{type(self).__name__} must define initial_state(batch, max_length).")

    def step(self, tokens: Tensor, state: Any, memory: Any = None) -> StepOutput:
        """Run one decoding step for every hypothesis, see `kseq.decoding`."""
        raise NotImplementedError(f"{type(self).__name__} must define step(tokens, state).")

    def step_after(self, tokens: Tensor, state: tuple, memory: Any = None) -> StepOutput:
        """Run `step` with a text's first token in place of the begin token.

        Args:
            tokens: int `(rows,)`.
            state: The state of `step`, and int32 `(rows,)`, the first token of each text, or -1 once it is read.
            memory: None.
        """
        inner, first = state
        output = self.step(ops.where(first >= 0, first, tokens), inner)
        return output._replace(state=(output.state, ops.full_like(first, -1)))

    @without_autograph
    def decode(
        self,
        prompt: Any = None,
        prompt_lengths: Any = None,
        *,
        strategy: str | Callable[..., Decoded],
        max_length: int,
        state: Any = None,
        **call: Any,
    ) -> Decoded:
        """Continue prompts.

        Args:
            prompt: int `(batch, time)`, the first tokens of each text without the begin token; a list of rows of ids,
                or a RaggedTensor. None for one text without a prompt.
            prompt_lengths: int `(batch,)`, how many of these tokens are real; None for all.
            strategy: A strategy of `kseq.decoding`, such as `Sampling(temperature=0.7)`, or its name; see
                `kseq.decoding.get_strategy`.
            max_length: Largest number of tokens in a text, the prompt and the end token included.
            state: The state after the tokens before the prompt, as `read` returns it, with a row for each prompt. The
                prompt then has a token or more, as it has for a model without a begin token. None: texts begin with the
                prompt.
            **call: Other arguments of the strategy's call: `score_prompt`, `seed`, `eos_id` and `pad_id`.

        Returns:
            The strategy's `Decoded`, whose tokens begin with the prompt. The method is pure: it can be compiled by
            `tf.function(..., jit_compile=True)` or `jax.jit`; a row whose prompt is wrong then has the score NaN.

        Raises:
            TypeError: If `strategy` is no strategy, or has no such argument.
            ValueError: If no strategy has this name, an option is out of range, or a prompt does not fit; outside
                compiled functions also if it has an id outside the vocabulary or the end token, or is empty although
                there is no begin token.
        """
        found = get_strategy(strategy)
        check_call(found, call)
        forced = Prompt.of(prompt, prompt_lengths, scored=False)
        ids = {"eos_id": self.eos_id, "pad_id": self.pad_id}
        if self.bos_id is not None and state is None:
            batch = 1 if forced is None else ops.shape(forced.tokens)[0]
            start = self.initial_state(batch, max_length)
            told = {} if forced is None else {"prompt": forced.tokens, "prompt_lengths": forced.lengths}
            return found(self.step, start, max_length=max_length, **({"bos_id": self.bos_id} | ids | told | call))
        forced = self._with_token(forced)
        if state is not None:
            check_rows_of_state(state, ops.shape(forced.tokens)[0], "prompts")
        first = self._first_tokens(forced)
        start = self.initial_state(ops.shape(first)[0], max_length) if state is None else state
        decoded = found(
            self.step_after,
            (start, first),
            max_length=whole("max_length", max_length) - 1,
            prompt=forced.tokens[:, 1:],
            prompt_lengths=ops.maximum(forced.lengths - 1, 0),
            **({"bos_id": self.eos_id} | ids | call),
        )
        return _with_first(decoded, first, self._begins(forced))

    def _first_tokens(self, prompt: Prompt) -> Tensor:
        """Return the first token of each prompt, int32 `(batch,)`, in the vocabulary."""
        return ops.clip(prompt.tokens[:, 0], 0, self.vocabulary_size - 1)

    def _with_token(self, prompt: Prompt | None) -> Prompt:
        """Return prompts that have a token or more, as far as it is known."""
        why = "a model without a begin token (bos_id=None), or that goes on from a state"
        if prompt is None or prompt.tokens.shape[1] == 0:
            raise ValueError(f"There is no prompt, but {why}, needs one with a token or more.")
        prompt.check(ops.shape(prompt.tokens)[0], self.vocabulary_size, (self.eos_id,))
        known = known_value(prompt.lengths)
        if known is not None and (known < 1).any():
            raise ValueError(f"prompt[{int(np.argmax(known < 1))}] is empty, but {why}, needs a token or more.")
        return prompt

    def _begins(self, prompt: Prompt) -> Tensor | None:
        """Return which prompts have a first token that a text can begin with, bool `(batch,)`; None if all do."""
        valid = prompt.valid(self.vocabulary_size, (self.eos_id,))
        return None if valid is None else ops.logical_and(valid, prompt.lengths > 0)

    def generate(
        self,
        prompts: Any = "",
        *,
        strategy: str | Callable[..., Decoded] = "sampling",
        max_length: int = 100,
        n_best: bool = False,
        seed: int | None = None,
        state: Any = None,
    ) -> Any:
        """Return the continuation of each prompt, without the prompt.

        The answer to a prompt does not depend on the others, but by its place, which tells its random numbers.

        Args:
            prompts: A list of texts, for the model's tokenizer, or of rows of ids; or a single text. The rows of an
                array of ids `(batch, time)` end before their trailing `pad_id`, as in `fit`.
            strategy: As in `decode`.
            max_length: Largest number of tokens after the prompt, the end token included; at least 1.
            n_best: Whether to return all continuations that the strategy finds with their scores.
            seed: An int; the prompt at place i draws by the seed `seed + i`. None: other random numbers at each call.
            state: As in `decode`, with a row for each prompt.

        Returns:
            For texts a list of str, for ids a list of lists of ids, the end token included; with `n_best` a list of
            lists of `(continuation, score)`, best first. For a single text, its item of the list.

        Raises:
            ValueError: As `decode`; and if `n_best` is no bool, `max_length` is below 1, or the model has no tokenizer
                for texts.

        Example:
            >>> model.generate("To be, or ", strategy=kseq.decoding.Sampling(temperature=0.8), max_length=40, seed=1)
            'not to be the sea of the state of the se'
        """
        check_n_best(n_best, "kseq.decoding.BeamSearch(top_paths=3)")
        found, max_length = get_strategy(strategy), positive_int(self, "max_length", max_length)
        rows, of_texts = rows_of_ids(self, prompts, "generate")
        if state is not None:
            check_rows_of_state(state, len(rows), "prompts")
        lengths = np.array([len(row) for row in rows], int)
        answers: list = [None] * len(rows)
        first_seed = fresh_seed() if seed is None else whole("seed", seed)
        for length in np.unique(lengths):  # of one length, so that each has room for `max_length` tokens
            places = np.flatnonzero(lengths == length)
            prompt = np.array([rows[place] for place in places], "int32").reshape(len(places), length)
            call = {"seed": first_seed + places} if getattr(found, "draws", False) else {}
            own = None if state is None else keras.tree.map_structure(lambda x, at=places: ops.take(x, at, 0), state)
            decoded = self.decode(prompt, strategy=found, max_length=int(length) + max_length, state=own, **call)
            texts = self._continuations(decoded, int(length), n_best, of_texts)
            for place, answer in zip(places, texts, strict=True):
                answers[place] = answer
        return answers[0] if isinstance(prompts, str | bytes) else answers

    def _continuations(self, decoded: Decoded, length: int, n_best: bool, of_texts: bool) -> list:
        """Return the texts or ids after prompts of one length."""
        tokens = ops.convert_to_numpy(decoded.tokens)[..., length:]
        if of_texts:
            return best_texts(tokenizer_of(self, "tokenizer", "generate"), tokens, decoded.scores, n_best)
        counts, scores = (ops.convert_to_numpy(each) for each in (decoded.lengths, decoded.scores))
        answers = [
            [(row[: count - length].tolist(), float(score)) for row, count, score in zip(*each, strict=True) if count]
            for each in zip(tokens, counts, scores, strict=True)
        ]
        return answers if n_best else [each[0][0] for each in answers]

    def stream(
        self, prompt: str = "", *, strategy: Any = "sampling", max_length: int = 100, seed: int | None = None
    ) -> Iterator[str]:
        """Yield the continuation of a text piece by piece, as soon as each token is chosen.

        Args:
            prompt: The text to go on from.
            strategy: "greedy", "sampling", or an object of these that follows one hypothesis.
            max_length: Largest number of tokens after the prompt, the end token included; at least 1. Prompts of one
                length and equal options share a compiled step.
            seed: An int, or None for other random numbers at each call.

        Yields:
            Texts that make up the continuation. A token may add an empty text.

        Raises:
            ValueError: As `decode`; and if the strategy does not choose one token at a time.
        """
        tokenizer = tokenizer_of(self, "tokenizer", "stream")
        (row,), _ = rows_of_ids(self, [prompt], "stream")
        options = get_strategy(strategy), len(row) + positive_int(self, "max_length", max_length), self.bos_id is None
        if self._streaming is None or self._streaming[0] != options:
            self._streaming = options, self._make_streaming(*options)
        streaming, state, words = self._streaming[1], self.initial_state(1, options[1]), row[None].astype("int32")
        if self.bos_id is None:
            state = (state, self._first_tokens(self._with_token(Prompt.of(words, None, scored=False))))
            words = words[:, 1:]
        written, shown, text = [], "", ""
        for place, streamed in enumerate(streaming(state, prompt=words, seed=seed)):
            if place < words.shape[1]:
                continue
            written.append(int(streamed.tokens[0]))
            text = tokenizer.detokenize(np.array([written], "int32")).numpy()[0].decode("utf-8", "replace")
            whole_text = text.rstrip(REPLACEMENT)  # the next tokens may complete the last character
            yield whole_text[len(shown) :]
            shown = whole_text if len(whole_text) > len(shown) else shown
        if len(text) > len(shown):
            yield text[len(shown) :]

    def _make_streaming(self, strategy: Any, max_length: int, first: bool) -> TokenStreaming:
        step, begin = (self.step_after, self.eos_id) if first else (self.step, self.bos_id)
        return TokenStreaming(
            strategy=strategy,
            step=step,
            bos_id=begin or 0,
            eos_id=self.eos_id,
            max_length=max_length - first,
            pad_id=self.pad_id,
        )


def _with_first(decoded: Decoded, first: Tensor, valid: Tensor | None) -> Decoded:
    """Return texts with their first token before the others, and the score NaN where it cannot begin a text."""
    shape = (*ops.shape(decoded.tokens)[:2], 1)
    begin = ops.broadcast_to(first[:, None, None], shape)
    some = decoded.lengths > 0
    zeros = ops.zeros(shape, dtype="float32")
    return decoded._replace(
        tokens=ops.concatenate([begin, decoded.tokens], axis=-1),
        lengths=ops.where(some, decoded.lengths + 1, 0),
        scores=with_nan(decoded.scores, valid),
        log_probabilities=ops.concatenate([zeros, decoded.log_probabilities], axis=-1),
    )


def check_rows_of_state(state: Any, count: Any, of: str) -> None:
    """Raise ValueError unless a state has `count` rows, as far as they are known: one for each of the texts `of`."""
    rows = batch_of(state)
    if not shapes_fit((rows,), (count,)):
        raise ValueError(f"The state has {rows} rows, but there are {count} {of}. Give one row for each.")
