"""A warning of bfloat16 on processors that have no instructions for it."""

import functools
import pathlib
import warnings

import keras

from kseq import backend

INSTRUCTIONS = "avx512_bf16", "amx_bf16", "bf16"  # of x86 and of ARM, by the names that Linux gives them
CPU_INFO = pathlib.Path("/proc/cpuinfo")


def warn_of_slow_precision(dtype: str) -> None:
    """Warn, once in a process, if a dtype is bfloat16 and the processor computes with it by other instructions."""
    if keras.backend.standardize_dtype(dtype) == "bfloat16" and not backend.has_accelerator() and not _has_bfloat16():
        _warn()


def _has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16, or it cannot be known."""
    if not CPU_INFO.exists():
        return True
    lines = CPU_INFO.read_text(errors="replace").splitlines()
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return not flags or not flags.isdisjoint(INSTRUCTIONS)


@functools.cache
def _warn() -> None:
    warnings.warn(
        "A recurrent layer computes in bfloat16, but this processor has no instructions for it (AVX512-BF16 or AMX), "
        "so training takes several times as long as in float32. Use float32 here, and mixed_bfloat16 where there are "
        "such instructions or a GPU.",
        stacklevel=3,
    )
