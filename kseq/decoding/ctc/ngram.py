"""N-gram models with back-off as tables in the graph, read from ARPA files."""

import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.automata.arcs import Arcs
from kseq.decoding.ctc.arpa import ZERO, read_arpa
from kseq.decoding.ctc.scorer import Scorer, check_weights
from kseq.decoding.decoding import Options
from kseq.numbers import read_numbers

NATS = math.log(10.0)  # ARPA files hold logarithms of base 10.
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, eq=False)
class NGram(Options):
    """An n-gram model as an automaton: its states are the known contexts, its arcs the n-grams.

    If the model has no n-gram for a token after a context, the probability is that after the context without its first
    token, times the context's back-off weight, and so on.

    Attributes:
        order: The longest n-gram.
        arcs: The n-grams of two tokens and more, by context and last token.
        values: float32 `(arcs + 1,)`, their log-probabilities in nats.
        unigrams: float32 `(tokens + 1,)`, in nats; the last is the end's.
        after_one: int32 `(tokens + 1,)`, the context after a token alone.
        backoff: float32 `(contexts,)`, in nats.
        shorter: int32 `(contexts,)`, the longest known proper suffix of each context.
        begin: The context at the beginning of a text.

    Example:
        >>> model = NGram.from_arpa("letters.arpa", symbols=["<blank>", "a", "b", "c"])
        >>> decoded = ctc_beam_search(logits, logit_lengths, scorers=(NGramScorer(model, weight=0.4, bonus=0.8),))

    References:
        - S. Katz, "Estimation of probabilities from sparse data for the language model component of a speech
          recognizer", 1987.
        - C. Allauzen, M. Mohri, B. Roark, "Generalized algorithms for constructing statistical language models", 2003
          (the automaton).
    """

    order: int
    arcs: Arcs
    values: np.ndarray
    unigrams: np.ndarray
    after_one: np.ndarray
    backoff: np.ndarray
    shorter: np.ndarray
    begin: int

    @classmethod
    def from_arpa(cls, path: str | pathlib.Path, symbols: Sequence[str]) -> "NGram":
        """Read an ARPA file, plain or compressed as .gz.

        Args:
            path: The file.
            symbols: The spelling of each token in the file, in the order of the tokens; files of letter models often
                have a special spelling of the space. N-grams with other words are left out. A token that is not in the
                file gets the probability of "<unk>", or 10 ** -99.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is a binary of KenLM, is cut or not as its header says, a line is malformed, an
                n-gram or a symbol comes twice, or there are no 1-grams of the symbols.
        """
        numbers = {symbol: number for number, symbol in enumerate(symbols)}
        if len(numbers) != len(symbols):
            twice = next(symbol for symbol in symbols if list(symbols).count(symbol) > 1)
            raise ValueError(f"symbols holds {twice!r} more than once. Give every token its own.")
        numbers |= {END: len(symbols), BEGIN: -1}
        probabilities: dict[tuple, float] = {}
        weights: dict[tuple, float] = {(): 0.0}
        unknown = ZERO
        for words, probability, backoff in read_arpa(pathlib.Path(path)):
            if words == (UNKNOWN,):
                unknown = probability
            if all(word in numbers for word in words):
                ngram = tuple(numbers[word] for word in words)
                if ngram in probabilities:
                    raise ValueError(f"{path} has the n-gram {' '.join(words)!r} twice. Write the model again.")
                probabilities[ngram] = probability * NATS
                if backoff:
                    weights[ngram] = backoff * NATS
        if not any((token,) in probabilities for token in range(len(symbols))):
            raise ValueError(f"{path} has no 1-grams of the symbols {list(symbols)[:5]}... How does it write them?")
        return cls._of(probabilities, weights, len(symbols) + 1, unknown * NATS)

    @classmethod
    def _of(cls, probabilities: dict[tuple, float], weights: dict[tuple, float], size: int, unknown: float) -> "NGram":
        """Return the tables of n-grams and back-off weights, by tuples of tokens, `size` with the end."""
        order = max(map(len, probabilities))
        known = {ngram[:-1] for ngram in probabilities} | {ngram for ngram in weights if len(ngram) < order}
        contexts = {context: state for state, context in enumerate(sorted(known, key=lambda x: (len(x), x)))}

        def longest(words: tuple) -> int:
            return next(contexts[words[n:]] for n in range(len(words) + 1) if words[n:] in contexts)

        arcs: list[dict[int, int]] = [{} for _ in contexts]
        values: list[dict[int, float]] = [{} for _ in contexts]
        for ngram, probability in probabilities.items():
            if len(ngram) > 1 and ngram[-1] >= 0:  # <s> is never predicted
                state = contexts[ngram[:-1]]
                arcs[state][ngram[-1]], values[state][ngram[-1]] = longest(ngram[-order + 1 :]), probability
        flat = [value for state in values for _, value in sorted(state.items())]
        return cls(
            order=order,
            arcs=Arcs.of(arcs),
            values=np.array([*flat, 0.0], "float32"),
            unigrams=np.array([probabilities.get((token,), unknown) for token in range(size)], "float32"),
            after_one=np.array([longest((token,)) for token in range(size)], "int32"),
            backoff=np.array([weights.get(context, 0.0) for context in contexts], "float32"),
            shorter=np.array([longest(context[1:]) for context in contexts], "int32"),
            begin=longest((-1,)),
        )

    def look_up(self, states: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of `tokens` after `states`, and the states after them; all have one shape.

        The token `len(symbols)` is the end of the text.
        """
        paid = ops.zeros_like(ops.cast(states, "float32"))
        value, end = ops.take(self.unigrams, tokens, axis=0), ops.take(self.after_one, tokens, axis=0)
        done = ops.zeros_like(states, dtype="bool")
        for _ in range(self.order - 1):
            arc, found = self.arcs.find(states, tokens)
            found = ops.logical_and(found, ops.logical_not(done))
            value = ops.where(found, ops.take(self.values, arc, axis=0), value)
            end = ops.where(found, ops.take(self.arcs.ends, arc, axis=0), end)
            done = ops.logical_or(done, found)
            paid = paid + ops.where(done, 0.0, ops.take(self.backoff, states, axis=0))
            states = ops.where(done, states, ops.take(self.shorter, states, axis=0))
        return value + paid, end


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True, eq=False)
class NGramScorer(Options, Scorer):
    """Adds `weight * log P(symbol | prefix) + bonus` for every symbol, where P is an n-gram model's probability.

    The end of the utterance adds `weight * log P(</s> | prefix)`.

    Attributes:
        model: The model; its tokens are the classes.
        weight: The factor of the log-probabilities, from -100 to 100.
        bonus: The gain of every symbol in nats, from -50 to 50: language models favour short texts.
        end: Whether to add the weighted log-probability of the end.

    Raises:
        ValueError: If a number is not finite or too large.
        TypeError: If `model` is no `NGram`.
    """

    model: NGram
    weight: float = 0.5
    bonus: float = 0.0
    end: bool = True

    def __post_init__(self) -> None:
        read_numbers(self)
        check_weights(self.weight, self.bonus)
        if not isinstance(self.model, NGram):
            raise TypeError(f"model must be an NGram, such as NGram.from_arpa(path, symbols), but is {self.model!r}.")

    def initial_state(self, batch: int | Tensor, classes: int) -> Tensor:
        """Return the context at the beginning, int32 `(batch,)`."""
        tokens = len(self.model.unigrams) - 1
        if tokens != classes:
            raise ValueError(
                f"The n-gram model has {tokens} symbols, but the logits have {classes} classes. Give from_arpa one "
                "symbol for each class, also for the blank, such as '<blank>'."
            )
        return ops.full((batch,), self.model.begin, dtype="int32")

    def score(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Return the weighted log-probabilities of `tokens`."""
        values, _ = self.model.look_up(ops.broadcast_to(state[:, None], ops.shape(tokens)), tokens)
        return self.weight * values + self.bonus

    def advance(self, state: Tensor, tokens: Tensor) -> Tensor:
        """Return the contexts after the symbols."""
        return self.model.look_up(state, tokens)[1]

    def finish(self, state: Tensor) -> Tensor | float:
        """Return the weighted log-probability of the end."""
        if not self.end:
            return 0.0
        return self.weight * self.model.look_up(state, ops.full_like(state, len(self.model.unigrams) - 1))[0]
