"""The import of tensorflow-text, which has no wheels for some platforms."""

from typing import Any


def text_ops() -> Any:
    """Return the module `tensorflow_text`.

    Raises:
        ImportError: If it cannot be imported.
    """
    try:
        import tensorflow_text
    except ImportError as error:
        raise ImportError(
            f"This part of kseq.text needs tensorflow-text, which could not be imported ({error}). Install it with "
            '`pip install "kseq[text]"`. If it is installed, its minor version must be that of tensorflow; the wheels '
            "of 2.21.0 cannot be loaded (undefined symbol: icudt77_dat), so use 2.21.1 or newer. Without it there are "
            "CharacterTokenizer, WordTokenizer, UnicodeWordTokenizer, ByteTokenizer and SentenceSplitter, with no "
            "normalizer, with TextNormalizer(form=None), or with others than StripAccents and BertNormalizer.",
            name="tensorflow_text",
        ) from error
    return tensorflow_text
