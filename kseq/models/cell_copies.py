"""Copies of a cell, one for each layer and direction."""

from typing import Any

import keras

from kseq.cells import Cell


def config_of(cell: Cell) -> dict[str, Any]:
    """Return what `copy_of` makes cells from: the cell's configuration, without its weights and their shapes."""
    config = keras.saving.serialize_keras_object(cell)
    return {key: value for key, value in config.items() if key != "build_config"}


def copy_of(cell_config: dict[str, Any], dtype: Any) -> Cell:
    """Return a new cell, in the precision of the layer that owns it."""
    inner = {**cell_config["config"], "dtype": keras.saving.serialize_keras_object(dtype)}
    return keras.saving.deserialize_keras_object({**cell_config, "config": inner})
