"""Protocol buffer messages built from tables of their fields, where no module with the original can be imported.

Serialised messages hold only the numbers and types of fields, not the names of files and packages. So a message with
the same fields is interchangeable with the original.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

Fields = Sequence[tuple[str, int, str]]
"""`(name, number, kind)` of each field; see `build`."""

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
    """Build the classes of messages, and return them by name.

    Args:
        package: Package of the messages. It must differ from the originals', which another library may have loaded.
        messages: Fields of each message, by the message's name. The kind of a field is the name of a scalar type,
            `any`, or the name of a message or enum of the tables. `KIND*` is a repeated field, `int64?` a wrapped
            value that may be absent, `map KIND` a map from strings. The fields of a oneof are listed like any others,
            since they are serialised in the same way.
        enums: Numbers of each enum by the names of the values, with the value 0 first.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package.replace('.', '/')}.proto",
        package=package,
        syntax="proto3",
        dependency=[any_pb2.DESCRIPTOR.name, wrappers_pb2.DESCRIPTOR.name],
    )
    enums = enums or {}
    for name, values in enums.items():
        # Each enum is nested in a message, because two enums in one scope must not share the name of a value.
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
