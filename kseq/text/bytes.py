"""The tokenizer of bytes."""

from typing import Any, ClassVar, Literal, Self, get_args

import keras
import tensorflow as tf

from kseq.text.corpus import as_batch
from kseq.text.normalization import replace_invalid_utf8
from kseq.text.offsets import Offsets, original_places
from kseq.text.ragged import ragged_beginnings
from kseq.text.special_tokens import SpecialTokens, checked_special_tokens
from kseq.text.tokenizer import Tokenizer
from kseq.text.vocabulary import Vocabulary

Invalid = Literal["replace", "keep"]


@keras.saving.register_keras_serializable(package="kseq")
class ByteTokenizer(Tokenizer):
    """Splits a text into the bytes of its UTF-8 form; there is no vocabulary to build, and no unknown token.

    With the default special tokens the byte `b` has the id `b + 4`, and there are 260 ids.

    It is lossless: `detokenize(tokenize(text))` is `normalize(text)`, and with `invalid="keep"` and no normalizer it is
    `text` itself, whatever its bytes.

    Args:
        invalid: Treatment of bytes that are not UTF-8, in texts and in what a model writes. "replace": U+FFFD stands
            for them, as in the other tokenizers, so a text that is served is always valid. "keep": they stay; a
            `normalizer` still gets, and makes, valid UTF-8.
        special_tokens: See `Tokenizer`; the bytes fill the other ids in order.
        **kwargs: Other arguments of `Tokenizer`, except `vocabulary`.

    Call arguments are those of `Tokenizer`.

    Raises:
        ValueError: If `invalid` is not one of those above.

    Example:
        >>> ids, lengths = ByteTokenizer(add_eos=True)(["ab", "\u00e9"])
        >>> ids.numpy().tolist(), lengths.numpy().tolist()
        ([[101, 102, 3], [199, 173, 3]], [3, 3])

    Reference:
        L. Xue et al., "ByT5: Towards a token-free future with pre-trained byte-to-byte models", 2022.
    """

    separator: ClassVar[str] = ""
    spells_special_tokens = False

    def __init__(
        self, *, invalid: Invalid = "replace", special_tokens: SpecialTokens | None = None, **kwargs: Any
    ) -> None:
        if invalid not in get_args(Invalid):
            raise ValueError(f"invalid must be one of {get_args(Invalid)}, but is {invalid!r}.")
        special = checked_special_tokens(special_tokens) or SpecialTokens()
        vocabulary = Vocabulary([f"<0x{byte:02X}>" for byte in range(256)], special_tokens=special)
        super().__init__(vocabulary, **kwargs)
        self.invalid = invalid
        ordinary = [place for place in range(len(vocabulary)) if place not in special.ids]
        surfaces = [string.encode() for string in vocabulary.strings]
        for byte, place in enumerate(ordinary):
            surfaces[place] = bytes([byte])
        with tf.init_scope():
            self._byte_ids = tf.constant(ordinary, tf.int32)
            self._surfaces = tf.constant(surfaces)

    def normalize(self, text: Any) -> tf.Tensor:
        """Return `text`, string `(batch,)`, normalised; as valid UTF-8, unless its invalid bytes are kept."""
        if self.invalid == "keep" and self._normalizer is None:
            return as_batch(text)
        return super().normalize(text)

    def split(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the bytes of `text`, string `(batch,)`, as the vocabulary spells them, ragged."""
        return self.vocabulary.tokens(self.encode(text))

    def encode(self, text: tf.Tensor) -> tf.RaggedTensor:
        """Return the ids, ragged int32 `(batch, (bytes))`, of `text`, string `(batch,)`, already normalised."""
        lengths = tf.strings.length(text)  # in bytes
        longest = tf.reduce_max(tf.concat([lengths, [1]], axis=0))
        values = tf.io.decode_raw(text, tf.uint8, fixed_length=longest)  # (batch, longest), 0 after the end
        rows = ragged_beginnings(values, lengths)
        return rows.with_flat_values(tf.gather(self._byte_ids, tf.cast(rows.flat_values, tf.int32)))

    def locate(self, text: tf.Tensor) -> Offsets:
        """Return the places of the bytes in `text`, string `(batch,)`.

        They are right if the normalizer keeps the number of characters. The bytes of a U+FFFD that stands for one
        invalid byte have its place, and the second and third are empty.
        """
        read = self.normalize(text)
        starts = tf.ragged.range(tf.strings.length(read))
        if self.invalid == "keep" and self._normalizer is None:
            return Offsets(starts, starts + 1)
        return Offsets(*(original_places(of, read, text) for of in (starts, starts + 1)))

    def spell(self, ids: tf.Tensor) -> tf.Tensor:
        """Return the bytes that `detokenize` writes for `ids`, int64 of any shape."""
        inside = (ids >= 0) & (ids < self.vocabulary_size)
        return tf.gather(self._surfaces, tf.where(inside, ids, self.unk_id))

    def finish(self, text: tf.Tensor) -> tf.Tensor:
        """Return joined bytes, string `(rows,)`, as valid UTF-8, unless invalid bytes are kept."""
        return text if self.invalid == "keep" else replace_invalid_utf8(text)

    def adapt(self, texts: Any, *, min_count: int = 1, max_size: int | None = None) -> Self:
        """Raise an error: the ids of bytes need no texts."""
        raise NotImplementedError("A ByteTokenizer has an id for each byte from the start. Leave adapt out.")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        config = {name: value for name, value in super().get_config().items() if name != "vocabulary"}
        return {**config, "invalid": self.invalid}
