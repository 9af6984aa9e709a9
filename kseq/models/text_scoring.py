"""Probabilities of whole texts under language models."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from kseq.backend import Tensor
from kseq.ids import integers, read_rows, with_nan
from kseq.masking import mask_from_lengths
from kseq.models.inputs.text_batches import map_rows, rows_of_ids


class TextScoring:
    """Mixin for language models, called on `source` and `lengths`: adds the probabilities of whole texts.

    Attributes:
        bos_id: Id of the token that begins a text, or None.
        eos_id: Id of the token that ends a text.
        pad_id: Id of the padding.
        vocabulary_size: Number of token ids.
        tokenizer: The tokenizer of the texts, or None.
    """

    bos_id: int | None
    eos_id: int
    pad_id: int
    vocabulary_size: Any  # int, a property of the models
    tokenizer: Any = None
    __call__: Callable[..., Tensor]

    def score(self, tokens: Any, lengths: Any) -> Tensor:
        """Return the log-probability of given outputs in nats, such as those of another model, to rank them by it.

        Args:
            tokens: int `(batch, time)`, or `n` outputs of each row, `(batch, n, time)`, as in `Decoded`, without begin
                token; the end token counts if it is among them.
            lengths: int `(batch,)` or `(batch, n)`.

        Returns:
            float32, of the shape of `lengths`; 0 for an output of length 0. Without a begin token, the first token is
            given, and does not count. In a compiled graph, a row with an id out of range or a length that does not fit
            has NaN.

        Example:
            >>> decoded = kseq.rescore(decoded, decoded.scores + 0.3 * model.score(decoded.tokens, decoded.lengths))
        """
        tokens, lengths = integers(tokens, "tokens"), integers(lengths, "lengths")
        time, shape = ops.shape(tokens)[-1], ops.shape(lengths)
        flat = ops.reshape(tokens, (-1, time)), ops.reshape(lengths, (-1,))
        rows = read_rows(*flat, self.vocabulary_size, name="tokens")
        begin = 0 if self.bos_id is None else self.bos_id
        source = ops.concatenate([ops.full_like(rows.ids[:, :1], begin), rows.ids[:, :-1]], axis=1)
        target, counts = rows.ids, rows.lengths
        if self.bos_id is None:
            source, target, counts = rows.ids[:, :-1], rows.ids[:, 1:], ops.maximum(rows.lengths - 1, 0)
        logits = self({"source": source, "lengths": counts}, training=False)
        own = ops.take_along_axis(ops.log_softmax(logits, axis=-1), target[..., None], axis=-1)[..., 0]
        real = mask_from_lengths(counts, ops.shape(target)[1])
        return ops.reshape(with_nan(ops.sum(ops.where(real, own, 0.0), axis=-1), rows.valid), shape)

    def log_probability(self, texts: Any) -> Any:
        """Return the log-probability of each text in nats, its end token included.

        Args:
            texts: A list of texts, for the model's tokenizer, or of rows of ids without begin and end tokens; or a
                single text. The rows of an array of ids `(batch, time)` end before their trailing `pad_id`, as in
                `fit`.

        Returns:
            A list of floats; for a single text, its float.
        """
        values = self._log_probabilities(rows_of_ids(self, texts, "log_probability")[0])
        return values[0] if isinstance(texts, str | bytes) else values

    def _log_probabilities(self, rows: Sequence[np.ndarray]) -> list[float]:
        ended = [np.append(row, self.eos_id).astype("int32") for row in rows]

        def answer(tokens: np.ndarray, lengths: np.ndarray) -> list:
            return ops.convert_to_numpy(self.score(tokens, lengths)).tolist()

        return map_rows(answer, ended, "int32")

    def perplexity(self, texts: Any) -> float:
        """Return the perplexity of texts, over all their tokens and end tokens; arguments as in `log_probability`.

        Raises:
            ValueError: If there is no token to predict: no text, or empty ones and no begin token.
        """
        rows, _ = rows_of_ids(self, texts, "perplexity")
        count = sum(len(row) + (self.bos_id is not None) for row in rows)
        if not count:
            raise ValueError(
                f"{len(rows)} texts have no token to predict, so they have no perplexity. Give at least one text"
                f"{'' if self.bos_id is not None else ' with a token, as there is no begin token (bos_id=None)'}."
            )
        return float(np.exp(-sum(self._log_probabilities(rows)) / count))
