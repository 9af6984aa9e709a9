"""Parts of the `Forecaster`: its inputs and their checks, its sample paths, and its export."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
