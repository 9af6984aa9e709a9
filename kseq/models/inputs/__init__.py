"""Inputs of models: their forms, their checks, and what is computed once per batch."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
