"""Hints for options of strategies that are misspelt, or have another name in other libraries."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

# Names of keras-hub, Hugging Face, TensorFlow Addons and others, and the name here.
OTHER_NAMES = {
    "alpha": "penalty_alpha",
    "beam_size": "beam_width",
    "beams": "beam_width",
    "diversity_penalty": "diversity_strength",
    "groups": "num_groups",
    "k": "top_k",
    "length_penalty_weight": "length_penalty",
    "max_len": "max_length",
    "max_new_tokens": "max_length",
    "max_steps": "max_length",
    "min_len": "min_length",
    "n_best": "top_paths",
    "num_beam_groups": "num_groups",
    "num_beams": "beam_width",
    "num_hypotheses": "top_paths",
    "num_return_sequences": "top_paths",
    "p": "top_p",
    "prefix": "prompt",
    "random_seed": "seed",
    "temp": "temperature",
    "top_n": "top_paths",
    "width": "beam_width",
}

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def refuse_unknown(owner: str, given: Iterable[str], known: Iterable[str], *, more: str = "") -> None:
    """Raise TypeError if one of the option names `given` is not among those `known`.

    Args:
        owner: The function or class that has the options, for the error.
        given: Names of options of a call.
        known: Names of the options that there are.
        more: The end of the error's message.
    """
    known = list(known)
    name = next((name for name in given if name not in known), None)
    if name is not None:
        likely = likely_name(name, known)
        hint = "" if likely is None else f" Did you mean {likely!r}?"
        raise TypeError(f"{owner} has no option {name!r}.{hint} The options are {known}. {more}".rstrip())


def likely_name(name: str, known: Iterable[str]) -> str | None:
    """Return the option that is likely meant by a name that is not among those `known`, or None."""
    known, other = list(known), OTHER_NAMES.get(name)
    return other if other in known else next(iter(difflib.get_close_matches(name, known, n=1)), None)


def checks_options(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function or method that raises TypeError with a hint if it is called with a keyword it does not have."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: Arguments.args, **options: Arguments.kwargs) -> Result:
        if not options.keys() <= set(known):
            owner: Any = args[0] if args else None
            name = type(owner).__name__ if function.__name__ == "__call__" else function.__name__
            refuse_unknown(name, options, [each for each in known if each != "self"])
        return function(*args, **options)

    return checked
