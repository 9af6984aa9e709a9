"""Copies of a cell, one for each layer and direction."""

from typing import Any

import keras

from kseq.cells import Cell
from kseq.cells.wrapper import config_of

__all__ = ["config_of", "copy_of"]


def copy_of(cell_config: dict[str, Any], dtype: Any) -> Cell:
    """Return a new cell, in the precision of the layer that owns it."""
    inner = {**cell_config["config"], "dtype": keras.saving.serialize_keras_object(dtype)}
    return keras.saving.deserialize_keras_object({**cell_config, "config": inner})
