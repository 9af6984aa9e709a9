"""Messages of protocol buffers from tables of their fields, for those that no importable module gives.

On the wire a message is its fields' numbers and types; names of files and packages do not travel. So a table of
these is a message, whatever the original is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

Fields = Sequence[tuple[str, int, str]]
"""``(name, number, kind)`` of each field; see ``build``."""

_Field = descriptor_pb2.FieldDescriptorProto
_KNOWN = {
    "any": any_pb2.Any.DESCRIPTOR,
    "int64?": wrappers_pb2.Int64Value.DESCRIPTOR,
    "string?": wrappers_pb2.StringValue.DESCRIPTOR,
    "bool?": wrappers_pb2.BoolValue.DESCRIPTOR,
}
_ENUM = "Enum"
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


def build(
    package: str, messages: Mapping[str, Fields], enums: Mapping[str, Mapping[str, int]] | None = None
) -> dict[str, Any]:
    """The classes of a table's messages, by name.

    Args:
        package: a name of one's own: another library in the process may know the originals by theirs.
        messages: the fields of each message. A kind is a scalar's name, ``any``, or the name of a message or enum of
            the table; ``KIND*`` is repeated, ``int64?`` may be absent, ``map KIND`` maps strings to it. A oneof's
            fields stand as any others: on the wire they are the same.
        enums: numbers by name of each enum, the one that is 0 first.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}.proto",
        package=package,
        syntax="proto3",
        dependency=[any_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name],
    )
    enums = enums or {}
    for name, values in enums.items():
        # In a message of its own, because the names of values are the names of the scope around their enum.
        entry = file.message_type.add(name=name).enum_type.add(name=_ENUM)
        for value, number in values.items():
            entry.value.add(name=value, number=number)
    for name, fields in messages.items():
        entry = file.message_type.add(name=name)
        for field in fields:
            _add_field(entry, f".{package}", field, enums)
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


def _add_field(
    message: descriptor_pb2.DescriptorProto, package: str, field: tuple[str, int, str], enums: Mapping[str, Any]
) -> None:
    name, number, kind = field
    if kind.startswith("map "):
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        for inner in (("key", 1, "string"), ("value", 2, kind.removeprefix("map "))):
            _add_field(entry, package, inner, enums)
        message.field.add(
            name=name,
            number=number,
            label=_Field.LABEL_REPEATED,
            type=_Field.TYPE_MESSAGE,
            type_name=f"{package}.{message.name}.{entry.name}",
        )
        return
    label = _Field.LABEL_REPEATED if kind.endswith("*") else _Field.LABEL_OPTIONAL
    kind = kind.rstrip("*")
    added = message.field.add(name=name, number=number, label=label)
    if kind in _SCALARS:
        added.type = _SCALARS[kind]
        return
    if kind in enums:
        added.type, added.type_name = _Field.TYPE_ENUM, f"{package}.{kind}.{_ENUM}"
        return
    added.type = _Field.TYPE_MESSAGE
    added.type_name = f".{_KNOWN[kind].full_name}" if kind in _KNOWN else f"{package}.{kind}"
