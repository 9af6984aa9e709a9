"""The import of packages with knowledge of languages, which are optional."""

import importlib
from typing import Any


def language_package(name: str, purpose: str) -> Any:
    """Return the module `name`.

    Args:
        name: A package of the extra `language`.
        purpose: What needs it, for the error.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs the package {name}, which could not be imported ({error}). Install it with "
            '`pip install "kseq[language]"`. An exported model does without it.',
            name=name,
        ) from error
