"""Answers of models: from outputs to tags, classes and texts, in Python and in exports."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
