"""Word vectors whose mean over a window predicts the word in its middle."""

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.models.word_vectors.window_model import WindowModel, Windows


@keras.saving.register_keras_serializable(package="kseq")
class CBOW(WindowModel):
    r"""Learns vectors of words by predicting each word from the mean of those around it, with negative sampling.

        loss of a centre c = -log sigmoid(h u_c) - negatives E[log sigmoid(-h u_n)]    n drawn noise words, without c

    with `h` the mean of the input vectors of the words in the window, and an output vector `u` of each word. It is
    several times faster than `SkipGram`, which serves rare words better.

    Args:
        vocabulary_size: Number of word ids.
        dim: Size of a vector.
        negatives: Number of noise words that weigh as much as the centre does.
        subwords: See `SkipGram`.
        source_tokenizer: See `SkipGram`.
        character_tokenizer: See `SkipGram`.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A batch of `kseq.training.context_windows`. A row with an id outside the vocabulary, or a
            window beyond its words, has the loss NaN.
        training: Whether dropout of `subwords` is on.

    Returns:
        The loss of each piece of text, float32 `(batch,)`. `fit` minimises their sum and shows the mean over centres.

    Raises:
        ValueError: If a number is not positive, or a tokenizer or `subwords` does not fit.

    Example: as of `SkipGram`.

    Reference: T. Mikolov, K. Chen, G. Corrado, J. Dean, "Efficient estimation of word representations in vector space",
    2013.
    """

    def centre_losses(self, windows: Windows, training: bool | None) -> Tensor:
        """Return the loss of each centre, float32 `(batch, time)`."""
        vectors = self.input_vectors(windows.words, training)  # (batch, width, dim)
        counts = ops.sum(windows.inside, axis=-1)  # (batch, time)
        means = windows.inside / ops.maximum(counts, 1.0)[..., None]
        means = ops.matmul(ops.cast(means, vectors.dtype), vectors)  # (batch, time, dim)
        of_centres = ops.cast(ops.sum(ops.multiply(means, self.output_embedding(windows.centres)), axis=-1), "float32")
        of_noise = ops.softplus(self.products(means, windows.noise))  # (batch, time, noise)
        differs = ops.cast(windows.centres[:, :, None] != windows.noise[:, None, :], "float32")
        noise = self.negatives / windows.noise.shape[1] * ops.sum(differs * of_noise, axis=-1)
        return ops.where(counts > 0, ops.softplus(-of_centres) + noise, 0.0)
