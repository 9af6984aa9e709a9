"""Automata over tokens as tables: tries of allowed sequences, and phrases that a text must contain."""

from kseq.decoding.automata.arcs import Arcs
from kseq.decoding.automata.phrase_automaton import PhraseAutomaton
from kseq.decoding.automata.trie import ROOT, Trie, build_trie

__all__ = ["ROOT", "Arcs", "PhraseAutomaton", "Trie", "build_trie"]


def __dir__() -> list[str]:
    return __all__
