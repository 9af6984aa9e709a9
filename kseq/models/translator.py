"""What models have in common that read one sequence and write another."""

from collections.abc import Callable
from typing import Any

from keras import ops

from kseq.backend import Tensor
from kseq.decoding import Decoded
from kseq.masking import mask_from_lengths
from kseq.models.serving import Serving, ServingOptions, serving_of_decoder


class Translator:
    """Mixin of models with `encode` and `step`: they are decoded by any strategy of `kseq.decoding`.

    Attributes:
        bos_id: Id of the token that begins a target.
        eos_id: Id of the token that ends it.
        pad_id: Id of the token that fills it up.
    """

    bos_id: int
    eos_id: int
    pad_id: int

    def encode(self, source: Tensor, source_lengths: Tensor) -> tuple[Any, Any]:
        """Return the first state and the memory for a source `(batch, time)` of int `lengths (batch,)`."""
        raise NotImplementedError(f"{type(self).__name__} must define encode(source, source_lengths).")

    def step(self, tokens: Tensor, state: Any, memory: Any) -> Any:
        """Take one decoding step for every hypothesis, see `kseq.decoding.decoding`."""
        raise NotImplementedError(f"{type(self).__name__} must define step(tokens, state, memory).")

    def decode(
        self, source: Tensor, source_lengths: Tensor, *, strategy: Callable[..., Decoded], max_length: int, **call: Any
    ) -> Decoded:
        """Write the target of each source.

        Args:
            source: int `(batch, time)`.
            source_lengths: int `(batch,)`.
            strategy: A strategy of `kseq.decoding`, such as `BeamSearch(beam_width=4)`.
            max_length: The most tokens written, end token included.
            **call: What else the strategy is called with: `prompt`, `prompt_lengths`, `score_prompt`, `seed`, and
                `source_mask`, by default the source's real positions.

        Returns:
            The strategy's `Decoded`. Pure: compile it with `tf.function(..., jit_compile=True)` or `jax.jit`.
        """
        state, memory = self.encode(source, source_lengths)
        if getattr(strategy, "coverage_penalty", 0) and call.get("source_mask") is None:
            # Of empty texts alone, encoders read one step of padding.
            time = 1 if source.shape[1] == 0 else ops.shape(source)[1]
            call["source_mask"] = mask_from_lengths(source_lengths, time)
        return strategy(
            self.step,
            state,
            memory=memory,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
            pad_id=self.pad_id,
            max_length=max_length,
            **call,
        )

    def serving(self, options: ServingOptions) -> Serving:
        """Return how the model is served: from tokens to tokens."""
        return serving_of_decoder(self, options)
