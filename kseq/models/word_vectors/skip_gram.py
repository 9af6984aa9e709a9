"""Word vectors that predict the words around a word."""

import keras
from keras import ops

from kseq.backend import Tensor
from kseq.models.word_vectors.window_model import WindowModel, Windows


@keras.saving.register_keras_serializable(package="kseq")
class SkipGram(WindowModel):
    r"""Learns vectors of words by predicting the words around each word, with negative sampling; fastText's, too.

        loss of a centre c = sum over its neighbours o of
            -log sigmoid(v_c u_o) - negatives E[log sigmoid(-v_c u_n)]    n drawn noise words, without o

    with an input vector `v` and an output vector `u` of each word. The expectation is the mean over the noise words
    that the centres of a piece of text share.

    Args:
        vocabulary_size: Number of word ids.
        dim: Size of a vector.
        negatives: Number of noise words that weigh as much as one neighbour does.
        subwords: None: each word has an input vector of its own. A `kseq.layers.CharNGramEmbedding`, of this `dim`: the
            input vector is made of the word's characters, as in fastText, so that unseen and misspelt words have one,
            too. Both tokenizers are then required.
        source_tokenizer: The tokenizer of the words, saved with the model. None: `word_vectors` needs a vocabulary, and
            the model cannot be exported.
        character_tokenizer: With `subwords`, the tokenizer of the characters of words, saved with the model.
        **kwargs: Arguments of `keras.Model`.

    Call arguments:
        inputs: A batch of `kseq.training.context_windows`. A row with an id outside the vocabulary, or a
            window beyond its words, has the loss NaN.
        training: Whether dropout of `subwords` is on.

    Returns:
        The loss of each piece of text, float32 `(batch,)`. `fit` minimises their sum and shows the mean over centres.

    `word_vectors()` returns the vectors as `kseq.text.WordVectors`. `kseq.export_saved_model` exports a model that
    answers a text with the mean `vector` of its words, the words `nearest` to it and their `similarities`. Words of the
    text are among the nearest ones: the first one of a single word is that word. Unknown words are left out of the
    mean, except with `subwords`; a text without a known word is refused.

    Raises:
        ValueError: If a number is not positive, or a tokenizer or `subwords` does not fit.

    Example:
        >>> tokenizer = kseq.text.WordTokenizer().adapt(texts, min_count=5)
        >>> model = kseq.models.SkipGram(tokenizer.vocabulary_size, 100, source_tokenizer=tokenizer)
        >>> model.compile()
        >>> model.fit(kseq.training.context_windows(tokenizer, texts), epochs=10)
        >>> model.word_vectors().nearest("king", 3)

    Reference: T. Mikolov, I. Sutskever, K. Chen, G. Corrado, J. Dean, "Distributed representations of words and
    phrases and their compositionality", 2013; with `subwords`, P. Bojanowski, E. Grave, A. Joulin, T. Mikolov,
    "Enriching word vectors with subword information", 2017; S. Ji, N. Satish, S. Li, P. Dubey, "Parallelizing word2vec
    in shared and distributed memory", 2019 (shared noise words).
    """

    def centre_losses(self, windows: Windows, training: bool | None) -> Tensor:
        """Return the loss of each centre, float32 `(batch, time)`."""
        vectors = self.input_vectors(windows.centres, training)  # (batch, time, dim)
        of_neighbours = ops.softplus(-self.products(vectors, windows.words))  # (batch, time, width)
        of_noise = ops.softplus(self.products(vectors, windows.noise))  # (batch, time, noise)
        # For each noise word, the number of the centre's neighbours that are another word.
        differs = ops.cast(windows.words[:, :, None] != windows.noise[:, None, :], "float32")
        pairs = ops.matmul(windows.inside, differs)  # (batch, time, noise)
        share = self.negatives / windows.noise.shape[1]
        return ops.sum(windows.inside * of_neighbours, axis=-1) + share * ops.sum(pairs * of_noise, axis=-1)
