"""kseq."""

from kseq import layers
from kseq.version import __version__
