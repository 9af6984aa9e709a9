"""Settings for all of kseq in this process, beside those of `keras.config`."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Literal

JitCompile = bool | Literal["auto"]

_of_process: list[JitCompile] = ["auto"]
_of_scope: contextvars.ContextVar[JitCompile] = contextvars.ContextVar("kseq_jit_compile", default="auto")


def set_jit_compile(value: JitCompile) -> None:
    """Set whether kseq's own parts are compiled by XLA where the graph around them is not. Only for TensorFlow.

    The parts are the time loops of recurrent layers and the sums over alignments of `kseq.ctc_loss` and of the other
    alignment losses. A part is compiled when it first runs with a shape, which takes some tenths of a second. Sizes
    that are known only when a graph runs are padded to a few sizes, so there are few shapes, whatever the data.

    Args:
        value: "auto", the default, compiles parts of the functions by which Keras's `fit`, `evaluate` and `predict` run
            a model, and of any other graph that is built under a `tf.GradientTape`. It does not on machines with a GPU,
            for cells that are not kseq's own, and in precisions below float32, of which XLA's products are slow on a
            CPU. True compiles parts of every graph, and False of none.

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
