"""The least of the binary tensor extension: one input in, one output out; nothing is validated.

For the stacks that edgeq's HTTP server is held against; runs in an environment without edgeq.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

Work = Callable[[memoryview], bytes]

HEADER_LENGTH = b"inference-header-content-length"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--unix", default="")
    parser.add_argument("--model", type=Path, default=None, help="none: the identity, without one")
    parser.add_argument("--shape", default="", help="of the answer, e.g. 1,10; none: the request's")
    return parser


def shape_of(text: str) -> list[int]:
    return [int(extent) for extent in text.split(",")] if text else []


def make_work(model: Path | None) -> Work:
    """Return what answers a tensor's bytes: LiteRT with one thread, or a copy."""
    if model is None:
        return bytes
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    given, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(content: memoryview) -> bytes:
        values = np.frombuffer(content, given["dtype"]).reshape(given["shape"])
        interpreter.set_tensor(given["index"], values)
        interpreter.invoke()
        return bytes(interpreter.get_tensor(out["index"]).tobytes())

    return run


def answer(
    body: bytes, header_length: int, work: Work, shape: Sequence[int]
) -> tuple[bytes, bytes]:
    """Return the answer's JSON and its tensor; an empty shape is the request's."""
    request = json.loads(body[:header_length])
    given = request["inputs"][0]
    output = work(memoryview(body)[header_length:])
    told = {
        "name": request["outputs"][0]["name"],
        "datatype": given["datatype"],
        "shape": shape or given["shape"],
        "parameters": {"binary_data_size": len(output)},
    }
    return json.dumps({"model_name": "m", "model_version": "1", "outputs": [told]}).encode(), output


def response_head(length: int, header_length: int) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"
        b"content-length: %d\r\ninference-header-content-length: %d\r\n\r\n"
    ) % (length, header_length)
