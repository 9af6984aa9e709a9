"""Bridges to keras-hub: its samplers over a kseq step, and kseq's strategies over its causal language models.

Nothing of keras-hub is imported: only its objects are called. `pip install "kseq[hub]"` installs it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.checks import batch_of, call_step, like
from kseq.decoding.decoding import Nest, StepOutput


def sample_with_keras_hub(
    sampler: Callable,
    step: Callable,
    state: Nest,
    *,
    memory: Nest = None,
    bos_id: int,
    eos_id: int,
    max_length: int,
    pad_id: int = 0,
    **call: Any,
) -> Tensor:
    """Decode a kseq step with one of keras-hub's samplers.

    Args:
        sampler: A `keras_hub.samplers.Sampler`, such as `TopPSampler(p=0.9, seed=1)`.
        step: The model, `step(tokens, state[, memory])`; see `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first; the sampler's cache.
        memory: The step's memory, with the batch first; it is not repeated for the sampler's beams.
        bos_id: The token before the first.
        eos_id: The token that ends a text: the sampler stops when every row has one.
        max_length: The most tokens, eos included; static.
        pad_id: The token after the end.
        **call: Further arguments of the sampler's call, such as `model=` on JAX, where its weights change.

    Returns:
        int32 `(batch, max_length)`, the tokens without bos. If a sampler returns more than tokens, its output is
        returned as it is, bos included.

    Example:
        >>> state, memory = model.encode(source, source_lengths)
        >>> sampler = keras_hub.samplers.TopKSampler(k=5, seed=1)
        >>> sample_with_keras_hub(sampler, model.step, state, memory=memory, bos_id=2, eos_id=3, max_length=9)
    """
    state = keras.tree.map_structure(ops.convert_to_tensor, state)
    batch = batch_of(state)

    def next_token(prompt: Tensor, cache: Nest, index: Tensor) -> tuple[Tensor, Tensor, Nest]:
        last = ops.cast(ops.take(prompt, index - 1, axis=1), "int32")
        output = call_step(step, last, cache, memory)
        hidden = output.logits if output.hidden is None else output.hidden  # contrastive samplers compare it
        return output.logits, hidden, like(cache, output.state)

    columns = ops.arange(max_length + 1, dtype="int32")
    prompt = ops.broadcast_to(ops.where(columns == 0, bos_id, pad_id), (batch, max_length + 1))
    given = ops.broadcast_to(columns == 0, (batch, max_length + 1))
    options = {"cache": state, "index": 1, "mask": given, "stop_token_ids": [eos_id], **call}
    tokens = sampler(next_token, ops.cast(prompt, "int32"), **options)
    if isinstance(tokens, tuple):
        return tokens
    tokens = ops.cast(tokens[:, 1:], "int32")
    ended = ops.cumsum(ops.cast(tokens == eos_id, "int32"), axis=1) - ops.cast(tokens == eos_id, "int32")
    return ops.where(ended > 0, pad_id, tokens)  # samplers go on writing in a row that has ended until all have


class CausalLMState(NamedTuple):
    """The state of a causal language model, rows first.

    Attributes:
        position: int32 `(rows,)`, the number of tokens read; the same in all rows.
        cache: float `(rows, layers, 2, positions, heads, head_dim)`, or in the model's own layout.
    """

    position: Tensor
    cache: Tensor


@dataclass(frozen=True)
class CausalLMStep:
    """A keras-hub causal language model as a step, with its cache as the state: any strategy of kseq drives it.

    Prompts are an option of the strategy's call (`prompt=`), and may differ in length. They go through the model token
    by token.

    Call arguments:
        tokens: int32 `(rows,)`.
        state: `CausalLMState`.

    Returns:
        `StepOutput` with logits and hidden.

    Attributes:
        model: A `keras_hub.models.CausalLM` with `call_with_cache`, such as `GPT2CausalLM` or `GemmaCausalLM`.

    Example:
        >>> step = CausalLMStep(keras_hub.models.GPT2CausalLM(backbone))
        >>> state = step.initial_state(batch=2, max_length=20)
        >>> beam_search(step, state, bos_id=0, eos_id=0, max_length=20, prompt=prompt, prompt_lengths=lengths).tokens
    """

    model: Any

    def initial_state(self, batch: int | Tensor, max_length: int) -> CausalLMState:
        """Return the state before bos, with room for `max_length` tokens after it."""
        # The only way to get a cache of the model's shape, which differs by family. A first pass has filled it, so it
        # is zeroed: no position that was not read may have an effect.
        _, cache = self.model._build_cache(ops.zeros((batch, max_length + 1), dtype="int32"))
        return CausalLMState(ops.zeros((batch,), dtype="int32"), ops.zeros_like(cache))

    def __call__(self, tokens: Tensor, state: CausalLMState) -> StepOutput:
        """Read one token of every row."""
        position = ops.max(state.position, initial=0)
        logits, hidden, cache = self.model.call_with_cache(tokens[:, None], state.cache, position)
        return StepOutput(logits[:, 0], CausalLMState(state.position + 1, cache), None, hidden[:, 0])
