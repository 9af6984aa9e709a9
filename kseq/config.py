"""Settings for all of kseq in this process, beside those of `keras.config`."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal

from kseq import backend

JitCompile = bool | Literal["auto"]

_of_process: list[JitCompile] = ["auto"]
_of_scope: contextvars.ContextVar[JitCompile] = contextvars.ContextVar("kseq_jit_compile", default="auto")


def set_jit_compile(value: JitCompile) -> None:
    """Set whether kseq's own parts are compiled by XLA where the graph around them is not. Only for TensorFlow.

    The parts are the time loops of recurrent layers, and the sums, best paths and searches over alignments: of
    `kseq.ctc_loss` and the other alignment losses, of `kseq.ctc_forced_align`, `kseq.ctc_beam_search` and their kin. A
    part is compiled when it first runs with a shape, which takes some tenths of a second, for a beam search seconds.
    Sizes that are known only when a graph runs are padded to a few sizes, so there are few shapes, whatever the data;
    `compilations` tells how many.

    Args:
        value: "auto", the default, compiles parts

            - of the functions by which Keras's `fit`, `evaluate` and `predict` run a model;
            - of any other graph that is built under a `tf.GradientTape`;
            - of calls outside graphs, once three of about the same sizes have been made; of each kind of call at most
              32 sizes.

            It does not on machines with a GPU, for cells that are not kseq's own, for convolutional cells, and for
            layers in precisions below float32: XLA's convolutions and low-precision products are slow on a CPU. True
            compiles parts of every graph and call, but a user's cell only in graphs. False compiles none.

    Exported graphs never contain compiled parts, because servers may refuse them. In a function with
    `jit_compile=True`, under a distribution strategy, with deterministic operations and on JAX the setting changes
    nothing. The argument `jit_compile` of `Model.compile` is another one: it compiles the whole step.

    Raises:
        ValueError: If `value` is another one.

    Example:
        >>> kseq.config.set_jit_compile(False)
        >>> kseq.layers.LSTM(64, jit_compile=True)  # the setting of a layer takes precedence
    """
    _of_process[0] = check_jit_compile(value)


def compilations() -> int:
    """Return for how many shapes XLA has compiled parts of kseq by themselves, in this process; 0 on JAX.

    The forward and the backward pass of a part count apart. Equal layers share their parts. Sizes that are known only
    when a graph runs are padded to a few, so the number grows ever more slowly. At 100 shapes, and whenever their
    number has doubled, it is reported on standard error.

    Example:
        >>> model.fit(batches)
        >>> kseq.config.compilations()
        14
    """
    return backend.compilations()


def jit_compile() -> JitCompile:
    """Return the setting in force: of the layer that is being called, of `jit_compile_scope`, or of the process."""
    return _of_process[0] if _of_scope.get() == "auto" else _of_scope.get()


@contextlib.contextmanager
def jit_compile_scope(value: JitCompile) -> Iterator[None]:
    """Use a setting inside a `with` statement, in place of that of `set_jit_compile`. "auto" changes nothing.

    Example:
        >>> with kseq.config.jit_compile_scope(False):
        ...     model.fit(few_rows, epochs=2)  # too short for compilations to pay
    """
    check_jit_compile(value)
    token = _of_scope.set(_of_scope.get() if value == "auto" else value)
    try:
        yield
    finally:
        _of_scope.reset(token)


def check_jit_compile(value: JitCompile) -> JitCompile:
    """Return the value, or raise if it is none of the three."""
    if isinstance(value, bool) or (isinstance(value, str) and value == "auto"):
        return value
    raise ValueError(f"jit_compile={value!r}, but it must be 'auto', True or False.")
