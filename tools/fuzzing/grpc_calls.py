"""A seed -> calls over gRPC: right ones, random messages, messages whose bytes are changed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from edgeq.serve.grpc.messages import Messages
from edgeq.serve.grpc.schema import RPCS, SERVICE
from tools.fuzzing.http_requests import NAMES, PIXELS, SHAPE, TENSOR, WITNESS
from tools.fuzzing.mutation import NUMBERS, mutate

TEXTS = ("", "toy", "1", "FP32", "INT8", "BYTES", "image", "scores", "\0", "\u00bf", "../x", *NAMES)
MOST_ENTRIES = 3
DEPTH = 4
STREAM = "ModelStreamInfer"
# Of the model's own life: allowed, but a build takes seconds of every core.
LEFT_OUT = ("RepositoryModelLoad", "RepositoryModelUnload")


@dataclass(frozen=True)
class Call:
    """One call; `is_right` where OK is all that may come of it."""

    method: str
    messages: tuple[bytes, ...]
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    timeout_s: float = 10.0
    is_right: bool = False

    @property
    def is_stream(self) -> bool:
        return self.method.endswith(STREAM)


class GrpcCalls:
    """The same calls for the same seed.

    Args:
        draw: where chance comes from.
        region: key of a shared memory segment.
        token: sent with half of them.
    """

    def __init__(self, draw: random.Random, region: str, token: str) -> None:
        self._draw = draw
        self._region = region
        self._token = token
        self._messages = Messages()
        self._corpus = [self._valid().SerializeToString(), self._registered().SerializeToString()]

    def next(self) -> Call:
        """Return the next one."""
        draw, kind = self._draw, self._draw.random()
        if kind < 0.2:
            message = self._valid(WITNESS).SerializeToString()
            return self._call("ModelInfer", message, is_right=True)
        if kind < 0.4:
            return self._call("ModelInfer", mutate(draw, self._corpus))
        rpc = draw.choice(RPCS)
        while rpc.name in LEFT_OUT and draw.random() < 0.9:
            rpc = draw.choice(RPCS)
        if kind < 0.5:
            return self._call(rpc.name, mutate(draw, [b"\n\3toy", *self._corpus]))
        if kind < 0.55:
            return self._call(draw.choice(("None", "", "modelinfer", "ModelInfer/x")), b"")
        return self._call(rpc.name, self._random(self._messages[rpc.request_message]))

    def _call(self, name: str, message: bytes, *, is_right: bool = False) -> Call:
        draw = self._draw
        count = draw.choice((0, 1, 2, 5)) if name == STREAM else 1
        metadata: list[tuple[str, str | bytes]] = []
        if draw.random() < 0.5:
            metadata.append(("authorization", f"Bearer {self._token}"))
        if draw.random() < 0.1:
            metadata.append(("x-strange", "y" * draw.choice((1, 2000))))
            metadata.append(("x-strange-bin", draw.randbytes(20)))
        timeout_s = 10.0 if is_right else draw.choice((10.0, 10.0, 10.0, 0.001, 0.02))
        return Call(f"/{SERVICE}/{name}", (message,) * count, tuple(metadata), timeout_s, is_right)

    # ---- messages

    def _valid(self, model: str = "toy") -> Any:
        request = self._messages["ModelInferRequest"](model_name=model)
        given = request.inputs.add(name=TENSOR, datatype="FP32", shape=SHAPE)
        if self._draw.random() < 0.5:
            request.raw_input_contents.append(bytes(4 * PIXELS))
        else:
            given.contents.fp32_contents.extend([0.25] * PIXELS)
        return request

    def _registered(self) -> Any:
        return self._messages["SystemSharedMemoryRegisterRequest"](
            name="r1", key=f"/{self._region}", offset=0, byte_size=64
        )

    def _random(self, kind: Any) -> bytes:
        message = kind()
        self._fill(message, DEPTH)
        content: bytes = message.SerializeToString()
        return content

    def _fill(self, message: Any, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self._draw.random() < 0.7:
                self._set(message, field, depth)

    def _set(self, message: Any, field: Any, depth: int) -> None:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        count = self._draw.randrange(1, MOST_ENTRIES + 1)
        if is_map:
            if depth and field.message_type.fields_by_name["value"].message_type is not None:
                for _ in range(count):
                    place = getattr(message, field.name)[self._draw.choice(TEXTS[:-2])]
                    self._fill(place, depth - 1)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            if depth and _is_many(field):
                for _ in range(count):
                    self._fill(getattr(message, field.name).add(), depth - 1)
            elif depth:
                self._fill(getattr(message, field.name), depth - 1)
        elif _is_many(field):
            getattr(message, field.name).extend([self._value(field) for _ in range(count)])
        else:
            setattr(message, field.name, self._value(field))

    def _value(self, field: Any) -> Any:
        draw, kind = self._draw, field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            is_text = field.type == FieldDescriptor.TYPE_STRING
            return draw.choice(TEXTS) if is_text else draw.randbytes(draw.choice((0, 1, 7, 1024)))
        if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            return draw.choice((0.0, -1.5, 1e30, float("nan"), float("inf")))
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return draw.random() < 0.5
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            return 0
        bits = 31 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 63
        value = draw.choice(NUMBERS) % (1 << bits)
        is_signed = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
        return -value if is_signed and draw.random() < 0.3 else value


def _is_many(field: Any) -> bool:
    """Protobuf 5 has the label only, of which later ones warn."""
    many = getattr(field, "is_repeated", None)
    return bool(field.label == FieldDescriptor.LABEL_REPEATED if many is None else many)
