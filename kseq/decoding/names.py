"""Decoding strategies by name, as `keras.losses.get` finds losses."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras

from kseq.decoding.beam_search import BeamSearch, beam_search
from kseq.decoding.contrastive_search import ContrastiveSearch
from kseq.decoding.ctc import CTCBeamSearch, CTCStreaming, ctc_beam_search, ctc_greedy_decode
from kseq.decoding.diverse_beam_search import DiverseBeamSearch
from kseq.decoding.greedy import GreedySearch, greedy_search
from kseq.decoding.option_names import likely_name, refuse_unknown
from kseq.decoding.sampling import Sampling, sample
from kseq.decoding.stochastic_beam_search import StochasticBeamSearch
from kseq.decoding.strategy import CALL, Strategy

SEQUENCE: dict[str, type[Strategy]] = {
    "greedy": GreedySearch,
    "beam": BeamSearch,
    "sampling": Sampling,
    "diverse_beam": DiverseBeamSearch,
    "stochastic_beam": StochasticBeamSearch,
    "contrastive": ContrastiveSearch,
    # The names of the functions.
    "greedy_search": GreedySearch,
    "beam_search": BeamSearch,
    "sample": Sampling,
    "diverse_beam_search": DiverseBeamSearch,
    "stochastic_beam_search": StochasticBeamSearch,
    "contrastive_search": ContrastiveSearch,
}
CTC: dict[str, Callable] = {
    "greedy": ctc_greedy_decode,
    "beam": ctc_beam_search,
    "ctc_greedy_decode": ctc_greedy_decode,
    "ctc_beam_search": ctc_beam_search,
}
SEQUENCE_WAY_OUT = f"Give one of {list(SEQUENCE)[:6]}, or an object such as kseq.decoding.BeamSearch(beam_width=4)."
CTC_WAY_OUT = f"Give one of {list(CTC)[:2]}, or an object such as kseq.decoding.CTCBeamSearch(beam_width=16)."


def get_strategy(identifier: Any) -> Any:
    """Return the strategy that a name, a configuration or an object stands for, for models that write token by token.

    Args:
        identifier: "greedy", "beam", "sampling", "diverse_beam", "stochastic_beam" or "contrastive", for the strategy
            with its default options; the dictionary of `keras.saving.serialize_keras_object(strategy)`; or a strategy,
            which is returned as it is. Any function with the arguments of `Strategy.__call__` is a strategy.

    Raises:
        ValueError: If no strategy has this name.
        TypeError: If it is none of these, such as a class, or decodes CTC.

    Example:
        >>> get_strategy("beam")
        BeamSearch(min_length=0, constraints=(), beam_width=4, ...)
    """
    found = _found(identifier, SEQUENCE, SEQUENCE_WAY_OUT)
    if isinstance(found, type) and issubclass(found, Strategy) and isinstance(identifier, str):
        return found()
    if isinstance(found, CTCBeamSearch | CTCStreaming) or found in (ctc_greedy_decode, ctc_beam_search):
        raise TypeError(
            f"strategy={_described(identifier)} reads frames of logits that were trained with CTC, but this model "
            f"writes token by token. {SEQUENCE_WAY_OUT}"
        )
    return found


def get_ctc_strategy(identifier: Any, *, blank_index: int = 0) -> Callable:
    """Return the CTC decoder that a name, a configuration or an object stands for.

    Args:
        identifier: "greedy", the best class of each frame, or "beam", a prefix beam search, with their default options;
            the dictionary of `keras.saving.serialize_keras_object(search)`; or `(logits, logit_lengths) -> CTCDecoded`,
            such as `CTCBeamSearch(beam_width=8)`, which is returned as it is.
        blank_index: The class of the blank for names, and for the functions `ctc_greedy_decode` and `ctc_beam_search`.

    Raises:
        ValueError: If no decoder has this name.
        TypeError: If it is none of these, such as a class, or a strategy that writes token by token.

    Example:
        >>> get_ctc_strategy("greedy", blank_index=9)(logits, logit_lengths).tokens
    """
    found = _found(identifier, CTC, CTC_WAY_OUT)
    if isinstance(found, Strategy) or found in (greedy_search, beam_search, sample):
        raise TypeError(
            f"strategy={_described(identifier)} writes token by token with a step, but a model trained with CTC gives "
            f"logits of frames. {CTC_WAY_OUT}"
        )
    return partial(found, blank_index=blank_index) if found in CTC.values() else found


def check_call(strategy: Any, call: Mapping[str, Any]) -> None:
    """Raise TypeError, with a hint, if a model's `decode` got an argument that is not of a strategy's call.

    Args:
        strategy: A strategy; of a user's function the arguments are not known.
        call: The arguments besides `source`, `source_lengths`, `strategy` and `max_length`.
    """
    if not isinstance(strategy, Strategy):
        return
    known, more = [name for name in CALL if name != "memory"], ""
    name = next((name for name in call if name not in known), "")
    for kind in (type(strategy), *SEQUENCE.values()):
        options = list(inspect.signature(kind).parameters)
        meant = name if name in options else likely_name(name, options)
        if name and meant and likely_name(name, known) is None:
            more = f"{meant!r} is an option of a strategy: strategy=kseq.decoding.{kind.__name__}({meant}=...)."
            break
    refuse_unknown("decode", call, known, more=more)


def _found(identifier: Any, named: dict[str, Any], way_out: str) -> Any:
    """Return the entry of a name, the object of a configuration, or the callable itself."""
    if isinstance(identifier, str):
        if identifier not in named:
            raise ValueError(f"There is no strategy {identifier!r}. {way_out}")
        return named[identifier]
    if isinstance(identifier, dict):
        return _found(keras.saving.deserialize_keras_object(identifier), named, way_out)
    if isinstance(identifier, type):
        raise TypeError(f"strategy={identifier.__name__} is a class. Make an object: {identifier.__name__}().")
    if not callable(identifier):
        raise TypeError(f"strategy={_described(identifier)} is no strategy. {way_out}")
    return identifier


def _described(identifier: Any) -> str:
    name = getattr(identifier, "__name__", None)
    return f"{identifier!r}" if isinstance(identifier, str) or identifier is None else name or type(identifier).__name__
