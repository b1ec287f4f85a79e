"""The schema's table -> message classes, in a descriptor pool of their own.

No generated code: that is tied to the protobuf version that made it. And nothing is registered in
the process's default pool, so that a client library that brings the same messages may be imported
beside it.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from edgeq.serve.grpc.schema import ENUMS, MESSAGES, PACKAGE

_FIELD = re.compile(
    r"(?:(?P<label>repeated|map) |oneof (?P<oneof>\w+): )?"
    r"(?P<type>[\w.]+) (?P<name>\w+) = (?P<number>\d+)"
)
_PROTO = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    name: getattr(_PROTO, f"TYPE_{name.upper()}")
    for name in ("bool", "bytes", "double", "float", "int32", "int64", "string", "uint32", "uint64")
}

Message = Any  # classes made at run time have no static type


class Messages:
    """The classes by name: `messages["ModelInferRequest"]`; nested ones by their dotted name."""

    def __init__(self) -> None:
        pool = descriptor_pool.DescriptorPool()
        pool.Add(_file())
        self._classes: dict[str, Message] = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}"))
            for name in MESSAGES
        }

    def __getitem__(self, name: str) -> Message:
        return self._classes[name]


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="edgeq/inference.proto", package=PACKAGE, syntax="proto3"
    )
    for name, values in ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    made: dict[str, Message] = {}
    for name, fields in MESSAGES.items():
        outer, _, own = name.rpartition(".")
        message = made[outer].nested_type.add() if outer else file.message_type.add()
        message.name = own
        made[name] = message
        for line in filter(None, map(str.strip, fields.splitlines())):
            _add_field(message, name, line)
    return file


def _add_field(message: Message, full_name: str, line: str) -> None:
    found = _FIELD.fullmatch(line)
    assert found is not None, f"{full_name}: {line!r} is no field"
    field = message.field.add(name=found["name"], number=int(found["number"]))
    is_many = found["label"] is not None
    field.label = _PROTO.LABEL_REPEATED if is_many else _PROTO.LABEL_OPTIONAL
    if found["oneof"]:
        groups = [each.name for each in message.oneof_decl]
        if found["oneof"] not in groups:
            message.oneof_decl.add(name=found["oneof"])
            groups.append(found["oneof"])
        field.oneof_index = groups.index(found["oneof"])
    of = found["type"]
    if found["label"] == "map":
        of = _add_entry(message, full_name, found["name"], of)
    _set_type(field, of)


def _add_entry(message: Message, full_name: str, field: str, value: str) -> str:
    """Nest the message that stands for a map's entry, as protobuf wants it; returns its name."""
    own = "".join(word.capitalize() for word in field.split("_")) + "Entry"
    entry = message.nested_type.add(name=own)
    entry.options.map_entry = True
    _set_type(entry.field.add(name="key", number=1, label=_PROTO.LABEL_OPTIONAL), "string")
    _set_type(entry.field.add(name="value", number=2, label=_PROTO.LABEL_OPTIONAL), value)
    return f"{full_name}.{own}"


def _set_type(field: Message, of: str) -> None:
    scalar = _SCALARS.get(of)
    if scalar is not None:
        field.type = scalar
        return
    field.type = _PROTO.TYPE_ENUM if of in ENUMS else _PROTO.TYPE_MESSAGE
    field.type_name = f".{PACKAGE}.{of}"
