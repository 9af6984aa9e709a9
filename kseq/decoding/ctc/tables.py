"""A base class of objects that are compiled into tables once, and saved and loaded as tables."""

from dataclasses import dataclass, fields
from typing import Any, Self

import keras

from kseq.decoding.decoding import Options


@dataclass(frozen=True, eq=False)
class Tables(Options):
    """A frozen dataclass whose own constructor computes its fields; loading restores them without that constructor."""

    def _set(self, **values: Any) -> None:
        """Set the fields, once."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Return an object with the fields of `get_config`."""
        made = object.__new__(cls)
        made._set(**{field.name: keras.saving.deserialize_keras_object(config[field.name]) for field in fields(cls)})
        return made
