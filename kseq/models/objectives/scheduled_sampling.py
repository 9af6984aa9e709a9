"""Scheduled sampling: decoders that read some of their own tokens in training."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kseq import backend
from kseq.backend import Tensor
from kseq.decoding.checks import call_step, like
from kseq.decoding.decoding import Options
from kseq.decoding.nucleus import draw
from kseq.models.objectives.forward_pass import decoding_start
from kseq.numbers import read_numbers

SCHEDULES = {  # name -> the options that it needs
    "constant": (),
    "linear": ("steps",),
    "exponential": ("k",),
    "inverse_sigmoid": ("k",),
}


@keras.saving.register_keras_serializable(package="kseq")
@dataclass(frozen=True)
class ScheduledSampling(Options):
    """Scheduled sampling (Bengio et al. 2015): in training, some of the decoder's inputs are its own samples.

    With teacher forcing a decoder only ever reads true tokens, and when it decodes, its own mistakes are new to it.
    Here each input after the first is, with a probability p, a token drawn from the decoder's prediction at the step
    before. p depends on i, the number of training steps that the model has made; the model saves this number with its
    weights. Bengio et al. call 1 - p epsilon:

    - "constant": `p = probability`;
    - "linear": p rises from `initial` to `probability` in `steps` steps, and stays there;
    - "exponential": `p = min(probability, 1 - k ** i)`, with 0 < k < 1;
    - "inverse_sigmoid": `p = min(probability, 1 - k / (k + exp(i / k)))`, with k of at least 1.

    The tokens are drawn step by step, each after the inputs that were drawn before it, from the model without dropout.
    Then the decoder runs over these inputs as it does in teacher forcing. With p = 0 the training step equals teacher
    forcing to the last bit. `evaluate` and `predict` use teacher forcing. Drawing takes about as long as decoding the
    batch greedily, at p = 0 too.

    Args:
        schedule: "constant", "linear", "exponential" or "inverse_sigmoid".
        probability: The probability of a sample ("constant"), or the largest one, from 0 to 1.
        initial: The probability at the first step, only for "linear", from 0 to `probability`. None: 0.
        steps: Number of training steps until `probability` is reached, only for "linear", at least 1.
        k: The speed of "exponential" and "inverse_sigmoid".
        samples: "hard": a drawn token, through which no gradient goes. "soft": the expected embedding, the mean of all
            tokens' embeddings weighted by their probabilities, through which the gradient goes (Goyal et al. 2017).
        temperature: Divisor of the logits before tokens are drawn or embeddings averaged, above 0.
        seed: Seed of the random numbers; None: a random one.

    Raises:
        ValueError: If a probability is outside [0, 1], or an option is out of range, missing, or not one of the
            schedule.

    Example:
        >>> sampling = kseq.training.ScheduledSampling("inverse_sigmoid", k=2000.0, probability=0.5)
        >>> model = kseq.models.Seq2Seq(encoder, decoder, sampling=sampling)

    References:
        - S. Bengio, O. Vinyals, N. Jaitly, N. Shazeer, "Scheduled sampling for sequence prediction with recurrent
          neural networks", 2015.
        - K. Goyal, C. Dyer, T. Berg-Kirkpatrick, "Differentiable scheduled sampling for credit assignment", 2017.
    """

    schedule: str = "constant"
    probability: float = 1.0
    initial: float | None = None
    steps: int | None = None
    k: float | None = None
    samples: str = "hard"
    temperature: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        read_numbers(self)
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule={self.schedule!r}, but it must be one of {list(SCHEDULES)}.")
        if self.samples not in ("hard", "soft"):
            raise ValueError(f"samples={self.samples!r}, but it must be 'hard' or 'soft'.")
        for name in ("probability", "initial"):
            if not 0.0 <= (getattr(self, name) or 0.0) <= 1.0:
                raise ValueError(f"{name}={getattr(self, name)}, but a probability is between 0 and 1.")
        if self.temperature < 1e-30:  # float32 cannot divide by less
            raise ValueError(f"temperature={self.temperature}, but it must be above 0, and 1e-30 at least.")
        _check_schedule(self)

    def probability_at(self, step: Any) -> Tensor:
        """Return the probability of a sample at a training step, counted from 0: a float32 scalar."""
        step = ops.maximum(ops.cast(step, "float32"), 0.0)
        if self.schedule == "constant":
            return ops.full_like(step, self.probability)
        if self.schedule == "linear":
            initial = self.initial or 0.0
            return initial + (self.probability - initial) * ops.minimum(step / float(self.steps or 1), 1.0)
        k = float(self.k or 1.0)
        if self.schedule == "exponential":
            return ops.minimum(self.probability, 1.0 - ops.exp(step * np.log(k).item()))
        return ops.minimum(self.probability, ops.sigmoid(step / k - np.log(k).item()))


def _check_schedule(options: ScheduledSampling) -> None:
    """Raise ValueError if an option of the schedule is missing or out of range, or is of another schedule."""
    needs, schedule = SCHEDULES[options.schedule], options.schedule
    for name, also in (("initial", ("linear",)), ("steps", ()), ("k", ())):
        given = getattr(options, name)
        if given is None and name in needs:
            raise ValueError(f"schedule={schedule!r} needs {name}=..., which was not given.")
        if given is not None and name not in needs and schedule not in also:
            raise ValueError(f"{name}={given} was given, which schedule={schedule!r} does not have. Leave it out.")
    if (options.initial or 0.0) > options.probability:
        raise ValueError(
            f"initial={options.initial} is above probability={options.probability}, but the share of samples rises."
        )
    if options.steps is not None and options.steps < 1:
        raise ValueError(f"steps={options.steps}, but it must be at least 1.")
    if schedule == "exponential" and not 0.0 < (options.k or 0.0) < 1.0:
        raise ValueError(
            f"k={options.k}, but 1 - k ** i is a probability at every step i only with k above 0 and below 1."
        )
    if schedule == "inverse_sigmoid" and (options.k or 0.0) < 1.0:
        raise ValueError(f"k={options.k}, but an inverse sigmoid needs k of at least 1.")


class SampledInputs(keras.layers.Layer):
    """The inputs of a decoder in training by scheduled sampling, and the number of training steps so far.

    Args:
        sampling: The options.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, sampling: ScheduledSampling, **kwargs: Any):
        super().__init__(**kwargs)
        self.sampling = sampling
        self.seed_generator = keras.random.SeedGenerator(sampling.seed)

    def build(self, inputs_shape: Any = None) -> None:
        """Create the number of training steps, a weight that is not trained."""
        # Not an integer: TensorFlow places int32 variables outside of GPUs. Not in half precision, which cannot count.
        self.steps = self.add_weight(
            name="steps", shape=(), initializer="zeros", trainable=False, dtype="float32", autocast=False
        )

    def draw(self, decoder: Any, tokens: Tensor, encoded: Any) -> dict[str, Tensor]:
        """Draw the inputs of one training step, and count the step.

        Args:
            decoder: The decoder, see `check_decoder`.
            tokens: The true inputs, int32 `(batch, time)`.
            encoded: The encoded source.

        Returns:
            The arguments of the decoder's call that replace `tokens`: `tokens` alone, int32 `(batch, time)`, or also
            `embedded`, float `(batch, time, embedding_dim)`.
        """
        probability = self.sampling.probability_at(self.steps)
        self.steps.assign(self.steps + 1.0)
        batch, time = ops.shape(tokens)
        # Drawn before the loop, whose body must be pure: whether a token is replaced, and by which one.
        numbers = keras.random.uniform((2, time, batch), dtype="float32", seed=self.seed_generator)
        replaced = numbers[0] < probability
        if self.sampling.samples == "soft":
            embedded = expected_inputs(decoder, tokens, encoded, replaced, self.sampling.temperature)
            return {"tokens": tokens, "embedded": embedded}
        return {"tokens": drawn_inputs(decoder, tokens, encoded, replaced, numbers[1], self.sampling.temperature)}


def drawn_inputs(
    decoder: Any, tokens: Tensor, encoded: Any, replaced: Tensor, numbers: Tensor, temperature: float
) -> Tensor:
    """Return `tokens` with some replaced by the decoder's own samples, each after the inputs before it.

    Args:
        decoder: Has `initial_state`, `memory` and `step`.
        tokens: int32 `(batch, time)`.
        encoded: The encoded source.
        replaced: Bool `(time, batch)`, True where a sample takes the token's place; the first token always stays.
        numbers: Float32 `(time, batch)`, uniform in [0, 1): those of the token that follows each step.
        temperature: Divisor of the logits.

    Returns:
        int32 `(batch, time)`, without a gradient.
    """
    state, memory = tree.map_structure(ops.stop_gradient, decoding_start(decoder, encoded, tokens.shape[1]))

    def step(carry: tuple, now: tuple) -> tuple[tuple, Tensor]:
        drawn, state = carry
        true, replace, number = now
        token = ops.where(replace, drawn, true)
        output = call_step(decoder.step, token, state, memory)
        logits = ops.stop_gradient(ops.cast(output.logits, "float32"))
        masses = ops.exp((logits - ops.max(logits, axis=-1, keepdims=True)) / temperature)
        # Without the gradient's stop, JAX would keep what the gradient of the loop needs.
        return (draw(masses, number), tree.map_structure(ops.stop_gradient, like(state, output.state))), token

    by_time = ops.transpose(tokens)
    inputs = by_time, replaced, numbers
    _, answer = backend.scan(step, (by_time[0], state), inputs, fetch_ahead=False)  # the first token is "drawn" first
    return ops.transpose(answer)


def expected_inputs(decoder: Any, tokens: Tensor, encoded: Any, replaced: Tensor, temperature: float) -> Tensor:
    """Return the embeddings of `tokens`, some replaced by the decoder's expected embeddings, see `drawn_inputs`.

    Returns:
        Float `(batch, time, embedding_dim)`, with a gradient through the expected embeddings.
    """
    state, memory = decoding_start(decoder, encoded, tokens.shape[1])
    embedded = ops.transpose(decoder.embedding(tokens), (1, 0, 2))  # (time, batch, embedding_dim)
    table = ops.cast(decoder.embedding.embeddings, embedded.dtype)

    def step(carry: tuple, now: tuple) -> tuple[tuple, Tensor]:
        expected, state = carry
        true, replace = now
        mixed = ops.where(replace[:, None], expected, true)
        output = decoder.step_embedded(mixed, state, memory)
        shares = ops.softmax(ops.cast(output.logits, "float32") / temperature, axis=-1)
        return (ops.matmul(ops.cast(shares, mixed.dtype), table), like(state, output.state)), mixed

    _, answer = backend.scan(step, (embedded[0], state), (embedded, replaced), fetch_ahead=False)
    return ops.transpose(answer, (1, 0, 2))


def check_sampling(sampling: Any, decoder: Any) -> None:
    """Raise ValueError unless `sampling` is None or options that the decoder can be trained with."""
    if sampling is None:
        return
    if not isinstance(sampling, ScheduledSampling):
        raise ValueError(
            f"sampling={sampling!r}, but it must be a kseq.training.ScheduledSampling, such as "
            "ScheduledSampling('linear', probability=0.25, steps=10000), or None."
        )
    if sampling.samples == "soft" and getattr(decoder, "num_tokens", 0) > decoder.vocabulary_size:
        raise ValueError("samples='soft' is the mean of embeddings, but copied tokens have none. Use samples='hard'.")
    needed = ["initial_state", "memory", "step", *["embedding", "step_embedded"] * (sampling.samples == "soft")]
    if missing := [name for name in needed if not hasattr(decoder, name)]:
        hint = "Use samples='hard'." if missing[0] in ("embedding", "step_embedded") else "Leave sampling out."
        raise ValueError(
            f"ScheduledSampling(samples={sampling.samples!r}) runs the decoder step by step, but "
            f"{type(decoder).__name__} has no {missing}. {hint}"
        )
