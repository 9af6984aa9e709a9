"""The encoder of tokens by a backbone of keras-hub.

Nothing of keras-hub is imported but to load a saved encoder. `pip install "kseq[hub]"` installs it.
"""

import importlib
from typing import Any

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.inner_layers import freeze_inner_layers
from kseq.layers import SequencePooling
from kseq.masking import mask_from_lengths, zero_padding
from kseq.models.encoders.token_encoder import Encoded, TokenEncoder

INPUTS = {"token_ids", "padding_mask", "segment_ids"}


@keras.saving.register_keras_serializable(package="kseq")
class BackboneEncoder(TokenEncoder):
    """Reads token ids with a backbone of keras-hub, such as `BertBackbone` or `RobertaBackbone`.

    The encoder makes the backbone's padding mask of the lengths; all tokens are in segment 0. The precision is the
    backbone's own. Its pooled output, where there is one, is left out.

    Args:
        backbone: A `keras_hub.models.Backbone` from `token_ids` and `padding_mask`, and perhaps `segment_ids`, to
            values of each token: made from its sizes, or with the weights of a preset. The encoder trains its layers.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        tokens: int `(batch, time)`, at most the backbone's `max_sequence_length`.
        lengths: int `(batch,)`, the number of real tokens in each row. Padding never changes an answer.
        training: Whether dropout is on.

    Returns:
        `Encoded(values (batch, time, dim), mask, states)`: the backbone's `sequence_output`, and one state `(batch,
        dim)`, its mean over the real tokens. For a row of length 0 all of them are zero.

    Raises:
        ValueError: If it is no such backbone, or there are more tokens than it has positions.
        ImportError: If a saved encoder is loaded, and keras-hub is not installed.

    Example:
        >>> backbone = keras_hub.models.BertBackbone(
        ...     vocabulary_size=5000, num_layers=2, num_heads=4, hidden_dim=64, intermediate_dim=128)
        >>> encoder = kseq.models.BackboneEncoder(backbone)
        >>> encoder(np.ones((2, 7), "int32"), np.array([7, 3])).values.shape
        (2, 7, 64)
    """

    def __init__(self, backbone: Any, **kwargs: Any):
        values = _check_backbone(backbone)
        super().__init__(backbone.vocabulary_size, **kwargs)
        config = keras.saving.serialize_keras_object(backbone)
        self.backbone_config = {key: value for key, value in config.items() if key != "build_config"}
        self.max_length = getattr(backbone, "max_sequence_length", None)
        # Without the layers after the values, which would have no gradient, so that Keras would warn.
        self.reader = keras.Model(backbone.input, values, name=backbone.name)
        self.mean = SequencePooling("mean", dtype=backbone.dtype_policy)
        freeze_inner_layers(self)

    def build(self, tokens_shape: tuple | None = None, lengths_shape: tuple | None = None) -> None:
        """Do nothing: the weights are the backbone's."""

    def call(
        self,
        tokens: Tensor,
        lengths: Tensor,
        characters: None = None,
        character_lengths: None = None,
        training: bool | None = None,
    ) -> Encoded:
        """Encode a batch, see `TokenEncoder.call`."""
        if characters is not None or character_lengths is not None:
            raise ValueError("BackboneEncoder got characters of words, but reads tokens and lengths alone.")
        time = tokens.shape[1]
        if self.max_length is not None and time is not None and time > self.max_length:
            raise ValueError(
                f"The rows have {time} tokens, but the backbone has max_sequence_length={self.max_length}. Cut them, "
                "or make the backbone with more positions."
            )
        if time is not None and time < 2:  # Keras warns of attention to a single step
            tokens = ops.pad(tokens, [(0, 0), (0, 2 - time)])
        mask = mask_from_lengths(lengths, ops.shape(tokens)[1])
        inputs = {"token_ids": tokens, "padding_mask": ops.cast(mask, "int32"), "segment_ids": ops.zeros_like(tokens)}
        inputs = {name: value for name, value in inputs.items() if name in self.reader.input}
        values = zero_padding(self.reader(inputs, training=training), mask)
        if time is not None and time < 2:
            values, mask = values[:, :1], mask[:, :1]
        return Encoded(values, mask, (self.mean(values, mask=mask),))

    def encoded_shape(self) -> Encoded:
        """Return the shapes of what `call` returns."""
        dim = self.reader.output.shape[-1]
        return Encoded((None, None, dim), (None, None), ((None, dim),))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "backbone": self.backbone_config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "BackboneEncoder":
        """Create an encoder from the result of `get_config`."""
        try:
            importlib.import_module("keras_hub")  # registers its classes
        except ImportError as error:
            raise ImportError('A BackboneEncoder needs keras-hub: pip install "kseq[hub]"') from error
        return cls(**{**config, "backbone": keras.saving.deserialize_keras_object(config["backbone"])})


def _check_backbone(backbone: Any) -> Any:
    """Return the symbolic values of a backbone, or raise ValueError if it does not read tokens as an encoder does."""
    inputs, outputs = getattr(backbone, "input", None), getattr(backbone, "output", None)
    names = set(inputs) if isinstance(inputs, dict) else None
    values = outputs.get("sequence_output") if isinstance(outputs, dict) else outputs
    fits = names is not None and {"token_ids", "padding_mask"} <= names <= INPUTS and values is not None
    if not fits or not hasattr(backbone, "vocabulary_size"):
        of_it = f"with the inputs {sorted(names)}" if names is not None else "without a dict of inputs"
        raise ValueError(
            f"BackboneEncoder needs a backbone of keras-hub with the inputs token_ids and padding_mask, and perhaps "
            f"segment_ids, to values of each token, but got {type(backbone).__name__} {of_it}. Take one such as "
            "keras_hub.models.BertBackbone."
        )
    return values
