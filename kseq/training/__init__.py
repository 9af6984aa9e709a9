"""Training data for sequence models."""

from kseq.training.bucketing import bucket_by_length

__all__ = ["bucket_by_length"]


def __dir__() -> list[str]:
    return __all__
