"""Stop words, stems and lemmas: in Python, and as tables in the graph."""

from kseq.text.word_forms.conllu import read_lemmas
from kseq.text.word_forms.lemmatizer import Lemmatizer
from kseq.text.word_forms.stemmer import Stemmer
from kseq.text.word_forms.stop_words import StopWords
from kseq.text.word_forms.word_form_table import WordFormTable
from kseq.text.word_forms.word_forms import WordForms

__all__ = ["Lemmatizer", "Stemmer", "StopWords", "WordFormTable", "WordForms", "read_lemmas"]


def __dir__() -> list[str]:
    return __all__
