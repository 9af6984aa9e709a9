"""The metaclass that keeps what Keras defines out of `help` and `dir` of kseq's layers and models."""

import abc
from typing import Any, Protocol

SHOWN = ("fit", "evaluate", "predict", "compile", "summary", "save", "save_weights", "load_weights")
OTHERS = ("keras", "tensorflow", "abc", "typing", "builtins")

# Metaclasses of a class's bases must agree. This one also derives from those of ABCs and protocols, so that a subclass
# of a kseq class may inherit from them too.
_ProtocolMeta: Any = type(Protocol)


class ShortHelp(_ProtocolMeta):
    """Metaclass of classes whose `dir` has the names that they and their bases outside Keras define.

    `help(kseq.models.Seq2Seq)` then has about 300 lines instead of more than 1000. Of the names that Keras defines, the
    methods of a model that users call are shown. Nothing else changes: all names remain attributes, and `dir` of an
    instance has all of them.

    A subclass with another metaclass needs one that derives from both, or Python reports a metaclass conflict:

        class Joined(MyMeta, type(kseq.layers.LSTM)): ...
        class MyLayer(kseq.layers.LSTM, metaclass=Joined): ...

    Python offers no other way: it asks a class's metaclass for the names that `help` shows, and reports the conflict
    before any code of the bases runs.
    """

    def __dir__(self) -> list[str]:
        names = {name for name in SHOWN if hasattr(self, name)} | {"__init__"}
        for base in self.__mro__:
            if base.__module__.split(".")[0] not in OTHERS:
                names |= {name for name in vars(base) if not name.startswith("_")}
        return sorted(names)

    # Protocols' own checks are slow and, in Python 3.11, fail for classes that are no protocols.
    __instancecheck__ = abc.ABCMeta.__instancecheck__
    __subclasscheck__ = abc.ABCMeta.__subclasscheck__
