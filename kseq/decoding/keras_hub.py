"""Bridges to keras-hub: its samplers over a kseq step, and kseq's strategies over its causal language models.

Nothing of keras-hub is imported: only its objects are called. `pip install "kseq[hub]"` installs it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.decoding.checks import batch_of, call_step, like, read_ends
from kseq.decoding.decoding import Nest, StepOutput
from kseq.decoding.prompt import Prompt
from kseq.numbers import LARGEST_ID, whole


def sample_with_keras_hub(
    sampler: Callable,
    step: Callable,
    state: Nest,
    *,
    memory: Nest = None,
    bos_id: int,
    eos_id: int | Sequence[int],
    max_length: int,
    pad_id: int = 0,
    prompt: Tensor | None = None,
    prompt_lengths: Tensor | None = None,
    **call: Any,
) -> Tensor:
    """Decode a kseq step with one of keras-hub's samplers.

    Args:
        sampler: A `keras_hub.samplers.Sampler`, such as `TopPSampler(p=0.9, seed=1)`.
        step: The model, `step(tokens, state[, memory])`; see `kseq.decoding.decoding`.
        state: Its initial state, a nest of tensors with the batch first; the sampler's cache.
        memory: The step's memory, with the batch first; it is not repeated for the sampler's beams.
        bos_id: The token before the first.
        eos_id: The token that ends a text, or several of which each does: the sampler stops when every row has one.
        max_length: The most tokens, eos included; static.
        pad_id: The token after the end; it may be the one that ends a text.
        prompt: int `(batch, max_prompt)`, the first tokens of each row, after bos, none of which ends a text; or a list
            of rows of ids, or a RaggedTensor; None for none.
        prompt_lengths: int `(batch,)`, how many of these tokens are real; None for all.
        **call: Further arguments of the sampler's call, such as `model=` on JAX, where its weights change.

    Returns:
        int32 `(batch, max_length)`, the tokens without bos, those of the prompt first. If a sampler returns more than
        tokens, its output is returned as it is: bos included, and a token that is none of `eos_id` where nothing was
        written.

    Raises:
        ValueError: If a number is none, the prompt does not fit the state or `max_length`, or the state is empty.
        TypeError: If the sampler cannot be called, or an argument in `call` is one that this function sets.

    Example:
        >>> state, memory = model.encode(source, source_lengths)
        >>> sampler = keras_hub.samplers.TopKSampler(k=5, seed=1)
        >>> sample_with_keras_hub(sampler, model.step, state, memory=memory, bos_id=2, eos_id=3, max_length=9)
    """
    if isinstance(sampler, type) or not callable(sampler):
        raise TypeError(f"sampler must be an object such as keras_hub.samplers.GreedySampler(), but is {sampler!r}.")
    if wrong := sorted(call.keys() & {"cache", "index", "mask", "stop_token_ids"}):
        raise TypeError(f"{wrong} follow from state, prompt and eos_id. Give those instead.")
    state = keras.tree.map_structure(ops.convert_to_tensor, state)
    batch, ends = batch_of(state), read_ends(eos_id)
    bos_id, pad_id = whole("bos_id", bos_id), whole("pad_id", pad_id)
    max_length = whole("max_length", max_length)

    def next_token(prompt: Tensor, cache: Nest, index: Tensor) -> tuple[Tensor, Tensor, Nest]:
        last = ops.cast(ops.take(prompt, index - 1, axis=1), "int32")
        output = call_step(step, last, cache, memory)
        hidden = output.logits if output.hidden is None else output.hidden  # contrastive samplers compare it
        return output.logits, hidden, like(cache, output.state)

    # A sampler takes an end token that stands where nothing is written yet for the end of the text.
    blank = next(token for token in range(len(ends) + 1) if token not in ends)
    written, given = _start(Prompt.of(prompt, prompt_lengths, scored=False), batch, bos_id, blank, max_length, ends)
    options = {"cache": state, "index": 1, "mask": given, "stop_token_ids": list(ends), **call}
    tokens = sampler(next_token, written, **options)
    if isinstance(tokens, tuple):
        return tokens
    tokens = ops.cast(tokens[:, 1:], "int32")
    is_end = ops.cast(ops.any(tokens[..., None] == np.array(ends, "int32"), axis=-1), "int32")
    ended = ops.cumsum(is_end, axis=1) - is_end
    return ops.where(ended > 0, pad_id, tokens)  # samplers go on writing in a row that has ended until all have


def _start(
    prompt: Prompt | None, batch: int | Tensor, bos_id: int, blank: int, max_length: int, ends: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return bos, the prompt and `blank` behind it, int32 `(batch, 1 + max_length)`, and where the first two stand."""
    columns = ops.broadcast_to(ops.arange(max_length + 1, dtype="int32"), (batch, max_length + 1))
    tokens, given = ops.where(columns == 0, bos_id, blank), columns == 0
    if prompt is not None:
        width = prompt.tokens.shape[1]
        if width is None or width > max_length:
            raise ValueError(f"The prompt has {width} columns, but max_length={max_length} counts its tokens, too.")
        prompt.check(batch, LARGEST_ID, ends)
        given = columns <= prompt.lengths[:, None]
        prompted = ops.pad(prompt.tokens, [(0, 0), (1, max_length - width)])
        tokens = ops.where(ops.logical_and(given, columns > 0), prompted, tokens)
    return ops.cast(tokens, "int32"), given


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
