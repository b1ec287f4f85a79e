"""Any body into the infer route: an answer, never an internal error; any tensor: itself again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.serve.calls import Calls
from edgeq.serve.data_plane import ModelView
from edgeq.serve.http.infer import InferHandler
from edgeq.serve.http.messages import Answer, Request
from edgeq.serve.rights import Peer
from edgeq.serve.shared_memory import SharedMemory
from edgeq.serve.statistics import Statistics
from edgeq.serve.tensors import DATATYPES, DTYPES
from edgeq.swap import Inference
from edgeq.tflite.runtime import TensorSpec

REGION_BYTES = 4096
LENGTH = b"inference-header-content-length"


class Mirror:
    """A data plane whose one model gives its inputs back, at once."""

    def __init__(self, specs: tuple[TensorSpec, ...] = ()) -> None:
        self.specs = specs

    def model(self, name: str, version: str | None) -> ModelView:
        del version
        return ModelView(name, "1", ("1",), "READY", "", "cpu-int8", self.specs, self.specs)

    def submit(self, name: str, version: Any, inputs: Mapping[str, Any], **_: Any) -> Future[Any]:
        del name, version
        done: Future[Any] = Future()
        done.set_result(Inference(dict(inputs), "1", "cpu-int8", queue_s=0, infer_s=0))
        return done


class Infer:
    """The route alone, without a server, over a segment of its own."""

    def __init__(self, folder: Path) -> None:
        self.segment = folder / "segment"
        self.segment.write_bytes(bytes(REGION_BYTES))
        self.plane = Mirror()
        self._regions = SharedMemory(folder)
        self._regions.register("r", "segment", 0, REGION_BYTES)
        plane: Any = self.plane
        self._handler = InferHandler(Calls(plane, 5, Statistics(), lambda _: None), self._regions)

    def __call__(self, body: bytes, length: str | None = None, **headers: str) -> Answer:
        sent = {key.replace("_", "-").encode(): text.encode() for key, text in headers.items()}
        if length is not None:
            sent[LENGTH] = length.encode("utf-8")
        peer = Peer(is_unix=True, is_loopback=False)
        request = Request("POST", "/v2/models/m/infer", "", sent, body, peer, 1 << 16)
        request.parameters = {"name": "m"}
        answer = self._handler(request)
        assert isinstance(answer, Answer)
        return answer


@pytest.fixture(scope="module")
def infer(tmp_path_factory: pytest.TempPathFactory) -> Infer:
    return Infer(tmp_path_factory.mktemp("infer"))


# ---- any body

PAIR = (TensorSpec("a", (-1, 2), np.dtype("<f4")), TensorSpec("b", (2,), np.dtype("<i4")))
IN_REGION = {"shared_memory_region": "r", "shared_memory_byte_size": 8, "shared_memory_offset": 64}
VALID = {
    "id": "1",
    "parameters": {"timeout": 5000, "priority": 1, "binary_data_output": True},
    "inputs": [
        {"name": "a", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
        {"name": "b", "datatype": "INT32", "shape": [2], "parameters": IN_REGION},
    ],
    "outputs": [
        {"name": "a", "parameters": {"classification": 1}},
        {"name": "b", "parameters": {**IN_REGION, "shared_memory_offset": 128}},
    ],
}
WORDS = ["r", "a", "b", "FP32", "BYTES", "BOOL", "shared_memory_region", "binary_data", "data"]
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 5),
    st.sampled_from([8, 16, 4088, 4096, 1 << 31, 1 << 62, (1 << 64) - 1, -(1 << 63), 1e300]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(WORDS),
    st.text(max_size=3),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(max_size=2)), inner, max_size=3),
    ),
    max_leaves=5,
)


def changed(tree: Any, draw: Any) -> Any:
    """Replace, drop or double one part, anywhere in the tree."""
    if not isinstance(tree, dict | list) or not tree or draw(st.integers(0, 4)) == 0:
        return draw(trees)
    keys = list(tree) if isinstance(tree, dict) else range(len(tree))
    key = draw(st.sampled_from(keys))
    kind = draw(st.sampled_from(["deeper", "deeper", "deeper", "drop", "double"]))
    made = tree.copy()
    if kind == "drop":
        del made[key]
    elif kind == "double" and isinstance(made, list):
        made.append(made[key])
    else:
        made[key] = changed(tree[key], draw)
    return made


def encoded(tree: Any) -> bytes:
    """As clients send it, who write any number and half a surrogate pair."""
    return json.dumps(tree).encode()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_request_is_answered_or_refused(infer: Infer, data: st.DataObject) -> None:
    infer.plane.specs = data.draw(st.sampled_from([PAIR, ()]))
    tree: Any = VALID
    for _ in range(data.draw(st.integers(0, 3))):
        tree = changed(tree, data.draw)
    head = encoded(tree)
    length = data.draw(st.one_of(st.just(str(len(head))), st.none(), st.text(max_size=3)))
    tail = data.draw(st.one_of(st.just(bytes(8)), st.binary(max_size=20)))
    answer = infer(head + tail, length)
    assert answer.status in (200, 400), answer.parts
    assert infer.segment.stat().st_size == REGION_BYTES


def test_the_request_that_is_changed_is_a_good_one(infer: Infer) -> None:
    infer.plane.specs = PAIR
    head = encoded(VALID)
    assert infer(head + bytes(8), str(len(head))).status == 200


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.one_of(st.none(), st.integers(0, 310).map(str)))
def test_random_bytes_are_answered_or_refused(
    infer: Infer, body: bytes, length: str | None
) -> None:
    infer.plane.specs = PAIR[:1]  # which takes raw bytes, too
    assert infer(body, length).status in (200, 400)
    assert infer(body, length, content_encoding="gzip").status == 400


# ---- any tensor


@st.composite
def tensors(draw: Any, *, finite: bool = False) -> np.ndarray:
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    elements = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" and finite else {}
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, max_side=4))
    array: np.ndarray = draw(hnp.arrays(dtype, shape, elements=elements))
    return array


def request_of(array: np.ndarray, how_in: str, how_out: str) -> tuple[bytes, str | None]:
    """Ask for `array` itself; `how` is json, binary or region (input at 0, output behind it)."""
    size = array.nbytes
    given: dict[str, Any] = {"name": "x", "datatype": DATATYPES[array.dtype]}
    given["shape"] = list(array.shape)
    wanted: dict[str, Any] = {"name": "x", "parameters": {"binary_data": how_out == "binary"}}
    region = {"shared_memory_region": "r", "shared_memory_byte_size": size}
    if how_in == "json":
        given["data"] = array.tolist() if array.ndim else [array.item()]
    else:
        given["parameters"] = region if how_in == "region" else {"binary_data_size": size}
    if how_out == "region":
        wanted["parameters"] = {**region, "shared_memory_offset": size}
    head = encoded({"inputs": [given], "outputs": [wanted]})
    return (head + array.tobytes(), str(len(head))) if how_in == "binary" else (head, None)


def tensor_of(answer: Answer, infer: Infer, how_out: str, size: int) -> np.ndarray:
    """Read the one output of an answer."""
    output = json.loads(bytes(answer.parts[0]))["outputs"][0]
    dtype, shape = DTYPES[output["datatype"]], output["shape"]
    if how_out == "json":
        return np.array(output["data"], dtype).reshape(shape)
    raw = infer.segment.read_bytes()[size : 2 * size] if how_out == "region" else answer.parts[1]
    return np.frombuffer(bytes(raw), dtype).reshape(shape)


WAYS = [(i, o) for i in ("json", "binary", "region") for o in ("json", "binary", "region")]


@pytest.mark.parametrize(("how_in", "how_out"), WAYS)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_tensor_comes_back_whichever_way_it_goes(
    infer: Infer, how_in: str, how_out: str, data: st.DataObject
) -> None:
    array = data.draw(tensors(finite="json" in (how_in, how_out)))
    infer.plane.specs = (TensorSpec("x", array.shape, array.dtype),)
    if how_in == "region":
        infer.segment.write_bytes(array.tobytes().ljust(REGION_BYTES, b"\0"))
    answer = infer(*request_of(array, how_in, how_out))
    assert answer.status == 200, answer.parts
    found = tensor_of(answer, infer, how_out, array.nbytes)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    if "json" not in (how_in, how_out):
        assert found.tobytes() == array.tobytes()  # to the bit: NaN's payload, too
    np.testing.assert_array_equal(found, array)
