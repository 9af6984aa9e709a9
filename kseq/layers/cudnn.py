"""The choice of cuDNN for a recurrent layer: TensorFlow's kernels for LSTM and GRU on a GPU."""

from typing import Any

import keras


def choose_cudnn(layer: Any, use_cudnn: bool | str, **options: bool) -> None:
    """Set whether the layer uses cuDNN, as Keras's constructor does. Only TensorFlow on a GPU has cuDNN.

    Args:
        layer: A recurrent layer whose `inner_loop` can use cuDNN. If it is going to, its `supports_jit` becomes False.
        use_cudnn: `"auto"`, True or False.
        **options: Further conditions of Keras's `cudnn_ok`.

    Raises:
        ValueError: If `use_cudnn` has another value.
    """
    if use_cudnn not in ("auto", True, False):
        raise ValueError(f"use_cudnn={use_cudnn!r}, but it must be 'auto', True or False.")
    layer.use_cudnn = use_cudnn
    cell = layer.cell
    if use_cudnn and keras.backend.backend() == "tensorflow":
        from keras.src.backend.tensorflow.rnn import cudnn_ok  # no public API; the same place in Keras 3.15 and 3.16

        suits = cudnn_ok(cell.activation, cell.recurrent_activation, layer.unroll, cell.use_bias, **options)
        layer.supports_jit = layer.supports_jit and not suits
