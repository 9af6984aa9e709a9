"""Reading of texts: tokens by one tokenizer, and the characters of words by another one."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kseq.export.inputs.reader import Reader
from kseq.export.padding import TooLong
from kseq.export.row_errors import add_error, first_place, no_errors
from kseq.models.export_contract import StepInputs


class TextReader(Reader):
    """Reads tokens from `text`, string `(batch,)`.

    Args:
        inputs: The inputs that the tokenizers produce. The tokenizer of an input with `steps_of` gets the strings of
            that input's tokens, such as words, whose characters it returns.
        names: Names of their lengths.
        tokenizers: A tokenizer for each input.
        largest: Largest number of tokens in a row.
        too_long: Whether rows with more tokens are cut, refused, or read as a whole, to be split into windows.
        as_written: Whether the answer contains the tokens as they are written. A text whose normalised form has another
            number of tokens is then refused, because its tokens would get the answers of others.
    """

    def __init__(
        self,
        inputs: Mapping[str, StepInputs],
        names: dict[str, str],
        tokenizers: Mapping[str, Any],
        largest: int,
        too_long: TooLong,
        *,
        as_written: bool = False,
    ):
        super().__init__(inputs, names)
        self.parents = {name: of_name.steps_of for name, of_name in inputs.items()}
        self.padded, self.optional = False, ()
        limits = {
            name: None if too_long == "windows" and parent is None else largest for name, parent in self.parents.items()
        }
        self.tokenizers = {name: _limited(of, limits[name]) for name, of in tokenizers.items()}
        self.refused = [
            name
            for name, of in tokenizers.items()
            if _refuses(of, limits[name], cut=inputs[name].is_cut(name, too_long))
        ]
        self.resources = tuple(self.tokenizers.values())
        self.texts: dict[int, bytes] = {}  # warm-up texts by their number of tokens
        self.first = next(name for name, parent in self.parents.items() if parent is None)
        self.as_written = as_written and tokenizers[self.first].get_config()["normalizer"] is not None

    def specs(self) -> list[tf.TensorSpec]:
        """Return the spec of `text`."""
        return [tf.TensorSpec([None], tf.string, name="text")]

    def read(self, request: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Return the tokens of `text`; a text with too many tokens may be refused."""
        text, inputs = request["text"], {}
        errors = no_errors(text)
        for name, parent in self.parents.items():
            tokenizer, told = self.tokenizers[name], self.names[name]
            if parent is None:
                inputs[name], inputs[told] = tokenizer(text)
            else:
                # The characters of the words as written: the normalizer of the words may remove capitals.
                words = self.tokenizers[parent].strings(text, normalized=False)
                inputs[name], inputs[told] = _spelled(tokenizer, _to_width(words, tf.shape(inputs[parent])[1]))
            if name in self.refused:
                errors = self._check_count(name, text, errors)
        return inputs, self._check_normalized(text, errors) if self.as_written else errors

    def strings(self, text: tf.Tensor, bucket: Any, *, normalized: bool) -> tf.Tensor:
        """Return the tokens of `text` as strings, `(batch, bucket)`, empty in the padding; begin and end by name."""
        tokenizer = self.tokenizers[self.first]
        ids, lengths = tokenizer(text)
        # (batch, time), empty for begin and end
        strings = _to_width(tokenizer.strings(text, normalized=normalized), tf.shape(ids)[1])
        tokens = tf.where(strings == "", tokenizer.vocabulary.tokens(ids), strings)
        return _to_width(tf.where(tf.sequence_mask(lengths, tf.shape(ids)[1]), tokens, ""), bucket)

    def offsets(self, text: tf.Tensor, bucket: Any) -> tuple[tf.Tensor, tf.Tensor]:
        """Return where the tokens of `text` start and end, in bytes, int32 `(batch, bucket)` each."""
        starts, ends = self.tokenizers[self.first].offsets(text)
        return _to_width(starts, bucket), _to_width(ends, bucket)

    def sample(self, size: int, length: int) -> dict[str, np.ndarray]:
        """Return a request of `size` equal texts of `length` tokens."""
        if length not in self.texts:
            self.texts[length] = text_of_length(self.tokenizers[self.first], length)
        return {"text": np.array([self.texts[length]] * size, object)}

    def _check_normalized(self, text: tf.Tensor, errors: tf.Tensor) -> tf.Tensor:
        """Refuse texts that have another number of tokens as they are written than in their normalised form.

        Of tokenizers that find places by characters, the numbers of characters are compared.
        """
        from kseq.text import ByteTokenizer  # the tokenizers are there, so it is imported
        from kseq.text.normalization import replace_invalid_utf8
        from kseq.text.subwords.subword_tokenizer import SubwordTokenizer

        tokenizer, written = self.tokenizers[self.first], replace_invalid_utf8(text)
        if isinstance(tokenizer, SubwordTokenizer | ByteTokenizer):
            unit, texts = "characters", (written, tokenizer.normalize(text))
            written, read = (tf.strings.length(each, unit="UTF8_CHAR") for each in texts)
        else:
            unit, written = "tokens", tokenizer.split(written).row_lengths()
            read = tokenizer.tokenize(text).row_lengths()
        more = ", so they would not belong together. Normalize the text first."
        reason = ["The text has ", written, f" {unit} as it is written, but its normalised form has ", read, more]
        return add_error(errors, written != read, *reason)

    def _check_count(self, name: str, text: tf.Tensor, errors: tf.Tensor) -> tf.Tensor:
        tokenizer, parent = self.tokenizers[name], self.parents[name]
        config = tokenizer.get_config()
        room = config["max_length"] - config["add_bos"] - config["add_eos"]
        most = f" tokens, but this model takes at most {room}. Shorten the "
        if parent is None:
            count = tokenizer.tokenize(text).row_lengths()
            return add_error(errors, count > room, "The text has ", count, f"{most}text.")
        words = self.tokenizers[parent].strings(text, normalized=False)  # (batch, words)
        counts = tf.reshape(tokenizer.tokenize(tf.reshape(words, [-1])).row_lengths(), tf.shape(words))
        bad, place, count = first_place(counts > room, counts)
        return add_error(errors, bad, f"{name}[", place, "] has ", count, f"{most}word.")


def _to_width(values: tf.Tensor, width: Any) -> tf.Tensor:
    """Return strings or numbers `(batch, time)` with `width` columns, filled up with "" or 0."""
    values = values[:, :width]
    filling = tf.zeros([], values.dtype)
    return tf.pad(values, tf.convert_to_tensor([[0, 0], [0, width - tf.shape(values)[1]]]), constant_values=filling)


def _spelled(tokenizer: Any, words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the ids of the characters of words `(batch, words)`, `(batch, words, characters)`, and their number."""
    ids, lengths = tokenizer(tf.reshape(words, [-1]))
    shape = tf.shape(words)
    return tf.reshape(ids, [shape[0], shape[1], tf.shape(ids)[1]]), tf.reshape(lengths, shape)


def _limited(tokenizer: Any, largest: int | None) -> Any:
    """Return the tokenizer with its rows limited to `largest` tokens, and without a check over the whole batch.

    The limit applies before padding, so that one long text does not widen the whole batch.
    """
    config = tokenizer.get_config()
    truncation = "end" if config["truncation"] == "error" else config["truncation"]
    limit = config["max_length"] if largest is None else min(config["max_length"] or largest, largest)
    if (config["max_length"], config["truncation"]) == (limit, truncation):
        return tokenizer
    return type(tokenizer).from_config({**config, "max_length": limit, "truncation": truncation})


def _refuses(tokenizer: Any, largest: int | None, *, cut: bool) -> bool:
    config = tokenizer.get_config()
    if largest is None:
        return config["truncation"] == "error" and config["max_length"] is not None
    cut_by_tokenizer = config["max_length"] is not None and config["max_length"] <= largest
    return config["truncation"] == "error" or (not cut and not cut_by_tokenizer)


def text_of_length(tokenizer: Any, length: int) -> bytes:
    """Return a text of `length` tokens, one token repeated; if none of the first tokens gives it, the longest found."""
    best, longest = b"", -1
    ordinary = (token for token in range(tokenizer.vocabulary_size) if token not in tokenizer.special_tokens.ids)
    for token in itertools.islice(ordinary, 10):
        text = tokenizer.detokenize(np.full((1, length), token, "int32"))
        # The text may have fewer tokens: white space collapses to one, and the tokenizer may limit its rows.
        made = min(int(tokenizer.tokenize(text).row_lengths()[0]), length)
        if made > longest:
            best, longest = text.numpy()[0], made
        if longest == length:
            break
    return best
