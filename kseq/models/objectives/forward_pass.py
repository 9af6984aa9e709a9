"""Parts of a forward pass that losses read besides the logits, to which they are attached as Keras attaches masks."""

from typing import Any, NamedTuple

from keras.src.backend.common.tensor_attributes import get_tensor_attr, set_tensor_attr  # no public API

from kseq.backend import Tensor

NAME = "_kseq_forward_pass"


class ForwardPass(NamedTuple):
    """The parts of a forward pass that losses read.

    Attributes:
        encoded: The encoded source, `kseq.models.Encoded`.
        weights: The attention's weights, float `(batch, target time - 1, source time)`, or None.
    """

    encoded: Any
    weights: Tensor | None


def attach(logits: Tensor, forward: ForwardPass) -> None:
    """Attach a forward pass to its logits."""
    set_tensor_attr(logits, NAME, forward)


def attached(logits: Tensor) -> ForwardPass:
    """Return the forward pass attached to logits.

    Raises:
        ValueError: If there is none: the logits are not what the model returned.
    """
    forward = get_tensor_attr(logits, NAME)
    if forward is None:
        raise ValueError(
            "compute_loss got logits that the model did not return: its losses also read the attention weights or the "
            "encoded source of the same call. Give the result of model(inputs, training=True) unchanged."
        )
    return forward


def decoding_start(decoder: Any, encoded: Any, longest: int | None) -> tuple[Any, Any]:
    """Return a decoder's initial state and memory.

    Args:
        decoder: The decoder.
        encoded: The encoded source.
        longest: Largest number of tokens that will be read, if it is known: caches of a decoder that has them are
            made for it.
    """
    state = decoder.initial_state(encoded)
    state = decoder.with_room(state, longest) if hasattr(decoder, "with_room") else state
    return state, decoder.memory(encoded)
