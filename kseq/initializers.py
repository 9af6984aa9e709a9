"""Initial weights of recurrent layers: Keras initializers, and recipes that combine them.

A recipe is a function that returns keyword arguments of a layer. Recipes for different arguments can be combined:

    kseq.layers.LSTM(64, **kseq.initializers.chrono_lstm(longest=200), **kseq.initializers.orthogonal_gates())
"""

from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor

# Kumar's rule sets the variance of weights to 1 / (N g'(0)^2 (1 + g(0)^2)); for the logistic function g, 12.8 / N.
LOGISTIC_VARIANCE = 1.0 / (0.25**2 * (1.0 + 0.5**2))


@keras.saving.register_keras_serializable(package="kseq")
class BlockOrthogonal(keras.initializers.Orthogonal):
    """Initializer of a recurrent kernel `(units, gates * units)` with an orthogonal square block for each gate.

    Keras's `Orthogonal` makes the rows of the whole kernel orthonormal, so each gate's block shrinks the state to
    `1 / sqrt(gates)` of its norm on average. Here each block preserves the norm. Blocks are independent and uniformly
    distributed over the orthogonal matrices.

    Args:
        gain: Factor of the orthogonal matrices.
        seed: An int or `keras.random.SeedGenerator`.

    Raises:
        ValueError: If the shape is not `(units, a multiple of units)`.

    Example:
        >>> kernel = kseq.initializers.BlockOrthogonal()((64, 4 * 64))
        >>> forget = kernel[:, 64:128]
        >>> np.allclose(forget.numpy().T @ forget.numpy(), np.eye(64), atol=1e-5)
        True

    Reference: A. Saxe, J. McClelland, S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", 2014.
    """

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        """Return the kernel."""
        if len(shape) != 2 or shape[0] < 1 or shape[1] % shape[0]:
            raise ValueError(
                "BlockOrthogonal makes recurrent kernels of shape (units, gates * units), but got shape "
                f"{tuple(shape)}. Use it as recurrent_initializer; for other kernels use "
                "keras.initializers.Orthogonal."
            )
        units, blocks = shape[0], shape[1] // shape[0]
        normal = keras.random.normal((blocks, units, units), dtype="float32", seed=self.seed)  # no QR in half precision
        q, r = ops.qr(normal)
        q = q * ops.sign(ops.diagonal(r, axis1=-2, axis2=-1))[:, None, :]  # makes the distribution uniform
        kernel = ops.reshape(ops.transpose(q, (1, 0, 2)), shape)
        return ops.cast(self.gain * kernel, dtype or keras.config.floatx())


class GateBias(keras.initializers.Initializer):
    """Base class of initializers for the bias of all gates, which need the shape of the whole bias vector.

    With `unit_forget_bias=True`, the default of `keras.layers.LSTM`, the layer would call it for parts of the vector
    and set the forget gate's bias itself. Pass `unit_forget_bias=False`, as the recipes do.
    """


@keras.saving.register_keras_serializable(package="kseq")
class ForgetGateBias(GateBias):
    """Initializer of an LSTM's bias `(4 units,)`: `value` at the forget gates, zeros at the others.

    The order of gates is Keras's: i, f, g, o. For a pre-activation of zero without bias, an LSTM keeps 0.5 of its cell
    state per step; with `value=1` it keeps `sigmoid(1) = 0.73`, with 5 0.993. Also pass `unit_forget_bias=False`.

    Args:
        value: The forget gates' bias.

    Raises:
        ValueError: If the shape is not `(4 units,)`.

    Example:
        >>> kseq.initializers.ForgetGateBias(2.0)((8,))
        [0., 0., 2., 2., 0., 0., 0., 0.]

    References:
        F. Gers, J. Schmidhuber, F. Cummins, "Learning to forget: continual prediction with LSTM", 2000.
        R. Jozefowicz, W. Zaremba, I. Sutskever, "An empirical exploration of recurrent network architectures", 2015.
    """

    def __init__(self, value: float = 1.0):
        self.value = value

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        """Return the bias."""
        units = _units_of_lstm_bias(self, shape)
        forget = ops.full((units,), self.value, dtype=dtype)
        zeros = ops.zeros_like(forget)
        return ops.concatenate([zeros, forget, zeros, zeros])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"value": self.value}


class _Chrono(keras.initializers.RandomUniform, GateBias):
    """Base class of chrono initializers, which draw `log(u)` for each unit, u uniform in `[1, longest - 1]`."""

    def __init__(self, longest: float, seed: Any = None):
        if not longest > 2:
            raise ValueError(
                f"longest={longest}, but chrono initialization draws log(U(1, longest - 1)): it must be more than 2. "
                "Give the longest dependency to learn, in time steps."
            )
        super().__init__(1.0, longest - 1.0, seed=seed)
        self.longest = longest

    def draw(self, units: int, dtype: Any) -> Tensor:
        """Return `log(u)` for each unit, `(units,)`."""
        return ops.cast(ops.log(super().__call__((units,), dtype="float32")), dtype or keras.config.floatx())

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"longest": self.longest, "seed": super().get_config()["seed"]}


@keras.saving.register_keras_serializable(package="kseq")
class ChronoLSTMBias(_Chrono):
    """Initializer of an LSTM's bias `(4 units,)` that gives units different memory spans, up to `longest` steps.

        b_f = log(u),   u uniform in [1, longest - 1]
        b_i = -b_f;     zeros for g and o

    A unit then forgets the fraction `1 / (1 + u)` of its cell state per step, and its input gate is open by the same
    fraction. Also pass `unit_forget_bias=False`.

    Args:
        longest: The longest dependency to learn, in time steps, more than 2 (the paper's T_max).
        seed: An int or `keras.random.SeedGenerator`.

    Raises:
        ValueError: If `longest` is not more than 2, or the shape not `(4 units,)`.

    Example:
        >>> kseq.initializers.ChronoLSTMBias(longest=200)((4 * 64,)).shape
        (256,)

    Reference: C. Tallec, Y. Ollivier, "Can recurrent neural networks warp time?", 2018.
    """

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        """Return the bias."""
        forget = self.draw(_units_of_lstm_bias(self, shape), dtype)
        zeros = ops.zeros_like(forget)
        return ops.concatenate([-forget, forget, zeros, zeros])


@keras.saving.register_keras_serializable(package="kseq")
class ChronoGRUBias(_Chrono):
    """Initializer of a GRU's bias that gives units different memory spans, up to `longest` steps.

        b_z = log(u),   u uniform in [1, longest - 1];   zeros for r and n

    In Keras `h' = z * h + (1 - z) * n`: z keeps the state, so its bias is positive, and a unit forgets the fraction
    `1 / (1 + u)` of its state per step. Texts that swap z and 1 - z have the opposite sign. The bias has shape
    `(3 units,)`, or `(2, 3 units)` with `reset_after=True`. In the second case the update gate adds both rows: the
    first row has the values and the second is zero.

    Args:
        longest: The longest dependency to learn, in time steps, more than 2 (the paper's T_max).
        seed: An int or `keras.random.SeedGenerator`.

    Raises:
        ValueError: If `longest` is not more than 2, or the shape neither `(2, 3 units)` nor `(3 units,)`.

    Example:
        >>> kseq.initializers.ChronoGRUBias(longest=200)((2, 3 * 64)).shape
        (2, 192)

    Reference: C. Tallec, Y. Ollivier, "Can recurrent neural networks warp time?", 2018.
    """

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        """Return the bias."""
        if tuple(shape[:-1]) not in ((), (2,)) or shape[-1] % 3:
            raise ValueError(
                "ChronoGRUBias makes a GRU's bias of shape (2, 3 * units), or (3 * units,) with reset_after=False, but "
                f"got shape {tuple(shape)}. Use it as bias_initializer of a GRU."
            )
        update = self.draw(shape[-1] // 3, dtype)
        row = ops.concatenate([update, ops.zeros_like(update), ops.zeros_like(update)])
        return row if len(shape) == 1 else ops.stack([row, ops.zeros_like(row)])


@keras.saving.register_keras_serializable(package="kseq")
class LogisticNormal(keras.initializers.VarianceScaling):
    """Initializer of kernels for logistic units: normal with standard deviation `3.6 / sqrt(N)`, N inputs.

    To first order this keeps a variance of 1 from layer to layer. A unit `g(w . y)` with weights of standard deviation
    v has variance `g'(0)^2 N v^2 (1 + g(0)^2)`, and the logistic function has slope 1/4 and value 1/2 at zero, hence
    `v = sqrt(12.8 / N)`. For tanh the same rule gives `1 / sqrt(N)`, which is `keras.initializers.LecunNormal`.

    Args:
        seed: An int or `keras.random.SeedGenerator`.

    Raises:
        ValueError: If the shape has fewer than two axes: a bias has no inputs to count.

    Example:
        >>> float(ops.std(kseq.initializers.LogisticNormal(seed=0)((100, 1000))))
        0.357...

    Reference: S. Kumar, "On weight initialization in deep neural networks", 2017.
    """

    def __init__(self, seed: Any = None):
        super().__init__(LOGISTIC_VARIANCE, "fan_in", "untruncated_normal", seed=seed)

    def __call__(self, shape: tuple, dtype: Any = None) -> Tensor:
        """Return the kernel."""
        if len(shape) < 2:
            raise ValueError(
                f"LogisticNormal makes kernels (inputs, units), but got shape {tuple(shape)}. Use zeros for biases."
            )
        return super().__call__(shape, dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"seed": super().get_config()["seed"]}


def identity_rnn(gain: float = 1.0) -> dict[str, Any]:
    """Return the arguments of a `SimpleRNN` that initially sums its inputs: ReLU and an identity recurrent kernel.

    Units that stay positive then pass gradients back unchanged over any distance.

    Args:
        gain: The diagonal of the recurrent kernel; below 1 for short dependencies (0.01 in the paper's speech model).

    Example:
        >>> kseq.layers.SimpleRNN(64, **kseq.initializers.identity_rnn())(np.ones((2, 10, 8))).shape
        (2, 64)

    Reference: Q. Le, N. Jaitly, G. Hinton, "A simple way to initialize recurrent networks of rectified linear units",
    2015. As there, input weights are normal with standard deviation 0.001 and biases are zero.
    """
    return {
        "activation": "relu",
        "kernel_initializer": keras.initializers.RandomNormal(stddev=0.001),
        "recurrent_initializer": keras.initializers.Identity(gain),
        "bias_initializer": "zeros",
    }


def logistic_rnn() -> dict[str, Any]:
    """Return the arguments of a `SimpleRNN` of logistic units, with `LogisticNormal` for both kernels.

    Example:
        >>> kseq.layers.SimpleRNN(64, **kseq.initializers.logistic_rnn())(np.ones((2, 10, 8))).shape
        (2, 64)
    """
    return {
        "activation": "sigmoid",
        "kernel_initializer": LogisticNormal(),
        "recurrent_initializer": LogisticNormal(),
        "bias_initializer": "zeros",
    }


def orthogonal_gates(gain: float = 1.0) -> dict[str, Any]:
    """Return the arguments of any recurrent layer for a recurrent kernel with an orthogonal block per gate.

    Example:
        >>> kseq.layers.GRU(64, **kseq.initializers.orthogonal_gates())(np.ones((2, 10, 8))).shape
        (2, 64)
    """
    return {"recurrent_initializer": BlockOrthogonal(gain)}


def forget_gate_lstm(value: float = 1.0) -> dict[str, Any]:
    """Return the arguments of an `LSTM` whose forget gates have the initial bias `value`.

    Example:
        >>> kseq.layers.LSTM(64, **kseq.initializers.forget_gate_lstm(5.0))(np.ones((2, 10, 8))).shape
        (2, 64)
    """
    return {"bias_initializer": ForgetGateBias(value), "unit_forget_bias": False}


def chrono_lstm(longest: float) -> dict[str, Any]:
    """Return the arguments of an `LSTM` with memory spans of up to `longest` steps, see `ChronoLSTMBias`.

    Example:
        >>> kseq.layers.LSTM(64, **kseq.initializers.chrono_lstm(longest=200))(np.ones((2, 10, 8))).shape
        (2, 64)
    """
    return {"bias_initializer": ChronoLSTMBias(longest), "unit_forget_bias": False}


def chrono_gru(longest: float) -> dict[str, Any]:
    """Return the arguments of a `GRU` with memory spans of up to `longest` steps, see `ChronoGRUBias`.

    Example:
        >>> kseq.layers.GRU(64, **kseq.initializers.chrono_gru(longest=200))(np.ones((2, 10, 8))).shape
        (2, 64)
    """
    return {"bias_initializer": ChronoGRUBias(longest)}


def _units_of_lstm_bias(initializer: GateBias, shape: tuple) -> int:
    if len(shape) != 1 or shape[0] % 4:
        raise ValueError(
            f"{type(initializer).__name__} makes an LSTM's bias of shape (4 * units,), but got shape {tuple(shape)}. "
            "Use it as bias_initializer of an LSTM, with unit_forget_bias=False."
        )
    return shape[0] // 4
