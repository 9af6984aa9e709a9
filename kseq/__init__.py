"""kseq: sequence layers, attention, beam search and text for Keras 3, exported and served as one model."""

import importlib
from typing import TYPE_CHECKING, Any

from kseq import (
    alignment,
    attention,
    cells,
    config,
    decoding,
    frontends,
    heads,
    initializers,
    layers,
    losses,
    masking,
    metrics,
    models,
    plots,
)
from kseq.alignment import ctc_forced_align
from kseq.decoding import (
    CRFDecoded,
    CTCDecoded,
    Decoded,
    beam_search,
    crf_decode,
    crf_marginals,
    ctc_beam_search,
    ctc_greedy_decode,
    greedy_search,
    rescore,
    sample,
)
from kseq.losses import crf_log_likelihood, ctc_loss
from kseq.models import sequence_log_probability
from kseq.version import __version__

if TYPE_CHECKING:
    from kseq import export, text, training
    from kseq.export import ExportOptions, export_saved_model, load_saved_model

# These need tensorflow, and most of `text` also tensorflow-text. They are imported on first use, so that layers and
# decoders run on JAX without them.
_LATER = {
    "export": "kseq.export",
    "text": "kseq.text",
    "training": "kseq.training",
    "ExportOptions": "kseq.export",
    "export_saved_model": "kseq.export",
    "load_saved_model": "kseq.export",
}

__all__ = [
    "CRFDecoded",
    "CTCDecoded",
    "Decoded",
    "ExportOptions",
    "__version__",
    "alignment",
    "attention",
    "beam_search",
    "cells",
    "config",
    "crf_decode",
    "crf_log_likelihood",
    "crf_marginals",
    "ctc_beam_search",
    "ctc_forced_align",
    "ctc_greedy_decode",
    "ctc_loss",
    "decoding",
    "export",
    "export_saved_model",
    "frontends",
    "greedy_search",
    "heads",
    "initializers",
    "layers",
    "load_saved_model",
    "losses",
    "masking",
    "metrics",
    "models",
    "plots",
    "rescore",
    "sample",
    "sequence_log_probability",
    "text",
    "training",
]


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'kseq' has no attribute {name!r}")
    module = importlib.import_module(_LATER[name])
    return module if _LATER[name] == f"kseq.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
