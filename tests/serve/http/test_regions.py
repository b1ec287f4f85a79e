"""Shared memory over HTTP: the routes, tensors in regions, and tritonclient's own utilities."""

from __future__ import annotations

import gzip
import json
import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.serve.rights import Rights

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # theirs, while it is imported
    triton = pytest.importorskip("tritonclient.http")
    import tritonclient.utils.shared_memory as triton_memory

SYSTEM, CUDA = "/v2/systemsharedmemory", "/v2/cudasharedmemory"
X = np.array([[1, 2.5, -3, 4]], np.float32)
Register = Callable[..., Path]


@pytest.fixture
def segment() -> Iterator[Path]:
    """A segment of 64 bytes: `X`, then zeros."""
    path = Path("/dev/shm") / f"edgeq-test-{uuid.uuid4().hex}"
    path.touch(0o600)
    path.write_bytes(X.tobytes() + bytes(48))
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def region(running: Any, segment: Path) -> Path:
    """The segment, registered as `r`."""
    answer = register(running, segment, 0, 64)
    assert (answer.status, answer.json()) == (200, {})
    return segment


def register(running: Any, segment: Path, offset: Any, size: Any, name: str = "r") -> Any:
    content = {"key": f"/{segment.name}", "offset": offset, "byte_size": size}
    return running.request("POST", f"{SYSTEM}/region/{name}/register", content)


def in_region(size: int = 16, offset: int = 0, region: str = "r") -> dict[str, Any]:
    parameters = {"shared_memory_region": region, "shared_memory_byte_size": size}
    return {"parameters": {**parameters, "shared_memory_offset": offset} if offset else parameters}


def infer(running: Any, *, outputs: Any = None, model: str = "echo", **entry: Any) -> Any:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], **(entry or in_region())}
    content = {"inputs": [tensor], **({"outputs": outputs} if outputs else {})}
    return running.request("POST", f"/v2/models/{model}/infer", content)


# ---- routes


def test_regions_are_registered_listed_and_forgotten(running: Any, segment: Path) -> None:
    row = {"name": "a b", "key": f"/{segment.name}", "offset": 16, "byte_size": 8}
    assert register(running, segment, 16, 8, "a%20b").status == 200
    assert register(running, segment, 0, 4, "c").status == 200
    assert [each["name"] for each in running.request("GET", f"{SYSTEM}/status").json()] == [
        "a b",
        "c",
    ]
    assert running.request("GET", f"{SYSTEM}/region/a%20b/status").json() == [row]
    assert running.request("POST", f"{SYSTEM}/region/c/unregister").json() == {}
    assert running.request("GET", f"{SYSTEM}/status").json() == [row]
    assert running.request("POST", f"{SYSTEM}/unregister").json() == {}
    assert running.request("GET", f"{SYSTEM}/status").json() == []


def test_a_region_that_is_not_there_may_be_unregistered_but_has_no_status(running: Any) -> None:
    assert running.request("POST", f"{SYSTEM}/region/r/unregister").status == 200
    answer = running.request("GET", f"{SYSTEM}/region/r/status")
    assert (answer.status, answer.error) == (
        404,
        "shared memory region 'r' is unknown; register it first",
    )


def test_a_registration_may_be_compressed(running: Any, segment: Path) -> None:
    body = gzip.compress(json.dumps({"key": segment.name, "byte_size": 64}).encode())
    headers = {"Content-Encoding": "gzip"}
    path = f"{SYSTEM}/region/r/register"
    assert running.request("POST", path, body, headers).json() == {}
    assert running.request("GET", f"{SYSTEM}/region/r/status").json()[0]["byte_size"] == 64


def test_a_name_is_taken_once(running: Any, region: Path) -> None:
    answer = register(running, region, 0, 16)
    assert (answer.status, answer.error) == (
        409,
        "shared memory region 'r' is registered already",
    )


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({}, "has key None; a string is expected"),
        ({"key": 7, "byte_size": 1}, "has key 7; a string"),
        ({"key": "/k"}, "has byte_size None; a number of bytes"),
        ({"key": "/k", "byte_size": "16"}, "has byte_size '16'; a number of bytes"),
        ({"key": "/k", "byte_size": True}, "has byte_size True; a number of bytes"),
        ({"key": "/k", "byte_size": 1, "offset": 0.5}, "has offset 0.5; a number of bytes"),
        ({"key": "/k", "byte_size": 1, "offset": None}, "has offset None; a number of bytes"),
        ({"key": "../k", "byte_size": 1}, "a segment's name is expected"),
        ({"key": "/edgeq-none", "byte_size": 1}, "No such file or directory"),
        ([], "a JSON object is expected"),
    ],
)
def test_a_wrong_registration_is_explained(running: Any, body: Any, what: str) -> None:
    answer = running.request("POST", f"{SYSTEM}/region/r/register", body)
    assert answer.status == 400
    assert what in answer.error


def test_registering_needs_the_right_to_change_models(start: Any, segment: Path) -> None:
    running = start(rights=Rights("swordfish"))
    assert register(running, segment, 0, 16).status == 401
    assert running.request("POST", f"{SYSTEM}/unregister").status == 401
    assert running.request("GET", f"{SYSTEM}/status").json() == []
    content = {"key": segment.name, "byte_size": 16}
    path = f"{SYSTEM}/region/r/register"
    assert running.request("POST", path, content, unix=True).status == 200
    token = {"Authorization": "Bearer swordfish"}
    assert running.request("POST", f"{SYSTEM}/unregister", headers=token).status == 200


def test_a_web_page_registers_nothing(running: Any, segment: Path) -> None:
    page = {"Origin": "http://example.org"}
    content = {"key": segment.name, "byte_size": 16}
    assert running.request("POST", f"{SYSTEM}/region/r/register", content, page).status == 403
    assert running.request("GET", f"{SYSTEM}/status").json() == []


def test_cuda_regions_cannot_be_registered_and_none_is_there(running: Any) -> None:
    assert running.request("GET", f"{CUDA}/status").json() == []
    assert running.request("POST", f"{CUDA}/unregister").json() == {}
    assert running.request("POST", f"{CUDA}/region/r/unregister").json() == {}
    assert running.request("GET", f"{CUDA}/region/r/status").status == 404
    content = {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": 16}
    answer = running.request("POST", f"{CUDA}/region/r/register", content)
    assert answer.status == 400
    assert "a Jetson's driver has no CUDA IPC" in answer.error


# ---- tensors


@pytest.mark.usefixtures("region")
def test_an_input_is_taken_from_a_region(running: Any) -> None:
    assert infer(running).json()["outputs"][0]["data"] == X.ravel().tolist()


def test_an_output_goes_into_a_region(running: Any, region: Path) -> None:
    answer = infer(running, outputs=[{"name": "y", **in_region(20, 32)}])
    expected = {
        "name": "y",
        "datatype": "FP32",
        "shape": [1, 4],
        "parameters": {
            "shared_memory_region": "r",
            "shared_memory_byte_size": 16,
            "shared_memory_offset": 32,
        },
    }
    assert answer.json()["outputs"] == [expected]
    assert region.read_bytes() == X.tobytes() + bytes(16) + X.tobytes() + bytes(16)


def test_a_classification_goes_into_a_region(running: Any, region: Path) -> None:
    output = {"name": "y", **in_region(48, 16)}
    output["parameters"]["classification"] = 2
    answer = infer(running, outputs=[output])
    elements = b"".join(
        len(each).to_bytes(4, "little") + each for each in (b"4.000000:3", b"2.500000:1")
    )
    found = answer.json()["outputs"][0]
    assert (found["datatype"], found["shape"]) == ("BYTES", [1, 2])
    assert found["parameters"]["shared_memory_byte_size"] == len(elements)
    assert region.read_bytes()[16:].rstrip(b"\0") == elements


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (in_region(region="q"), "shared memory region 'q' is unknown"),
        (in_region(16, 49), "has 64 bytes; 16 from offset 49 are not inside"),
        (in_region(16, 1 << 62), "are not inside"),
        (in_region(12), "FP32 of shape [1, 4] takes 16"),
        ({"parameters": {"shared_memory_region": "r"}}, "has no shared_memory_byte_size"),
        ({"parameters": {"shared_memory_region": 7}}, "a string is expected"),
        ({**in_region(), "data": [1, 2, 3, 4]}, "has more than one of data"),
        (in_region(1 << 60), "bytes; FP32 of shape [1, 4] takes 16"),
    ],
)
@pytest.mark.usefixtures("region")
def test_a_wrong_place_of_an_input_is_explained(running: Any, place: Any, what: str) -> None:
    answer = infer(running, **place)
    assert answer.status == 400
    assert what in answer.error
    assert running.plane.submitted == []


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (in_region(region="q"), "shared memory region 'q' is unknown"),
        (in_region(16, 49), "has 64 bytes; 16 from offset 49 are not inside"),
        (in_region(15), "output 'y' has 16 bytes; its place in shared memory has 15"),
    ],
)
def test_a_wrong_place_of_an_output_is_explained(
    running: Any, region: Path, place: Any, what: str
) -> None:
    before = region.read_bytes()
    answer = infer(running, outputs=[{"name": "y", **place}])
    assert answer.status == 400
    assert what in answer.error
    assert region.read_bytes() == before


def test_a_truncated_region_is_an_error_and_the_server_lives(running: Any, region: Path) -> None:
    os.truncate(region, 8)
    outputs = [{"name": "y", **in_region(16, 32)}]
    data = {"data": X.ravel().tolist()}
    for answer in (infer(running), infer(running, outputs=outputs, **data)):
        assert answer.status == 400
        assert "shared memory region 'r' was truncated" in answer.error
    assert region.stat().st_size == 8
    assert infer(running, **data).status == 200


def test_one_request_mixes_json_binary_and_regions(running: Any, segment: Path) -> None:
    segment.write_bytes(np.array([7, -8], np.int32).tobytes() + bytes(56))
    register(running, segment, 0, 64)
    a = np.array([[1, 2], [3, 4]], np.float32)
    head = {
        "inputs": [
            {"name": "b", "datatype": "INT32", "shape": [2], **in_region(8)},
            {
                "name": "a",
                "datatype": "FP32",
                "shape": [2, 2],
                "parameters": {"binary_data_size": 16},
            },
        ],
        "outputs": [
            {"name": "b", "parameters": {"binary_data": True}},
            {"name": "a", **in_region(32, 8)},
        ],
    }
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    body = text + a.tobytes()
    answer = running.request("POST", "/v2/models/pair/infer", body, headers)
    assert answer.status == 200
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert np.frombuffer(answer.body[length:], np.int32).tolist() == [7, -8]
    assert segment.read_bytes()[8:24] == a.tobytes()
    head["inputs"][1] = {"name": "a", "datatype": "FP32", "shape": [1, 2], "data": [5, 6]}
    head["outputs"][0] = {"name": "b"}
    answer = running.request("POST", "/v2/models/pair/infer", head)
    assert answer.json()["outputs"][0]["data"] == [7, -8]
    assert segment.read_bytes()[8:16] == np.array([5, 6], np.float32).tobytes()


# ---- tritonclient


def test_tritonclient_s_utilities_work_from_end_to_end(running: Any) -> None:
    image = np.arange(96 * 96 * 3, dtype=np.uint8).reshape(1, 96, 96, 3)
    key, size = f"edgeq-test-{uuid.uuid4().hex}", image.nbytes
    client = triton.InferenceServerClient(running.address)
    handle = triton_memory.create_shared_memory_region("frames", key, 64 + 2 * size)
    try:
        triton_memory.set_shared_memory_region(handle, [image], offset=64)
        client.register_system_shared_memory("frames", key, 2 * size, offset=64)
        status = client.get_system_shared_memory_status()
        assert status == [{"name": "frames", "key": key, "offset": 64, "byte_size": 2 * size}]
        given = triton.InferInput("x", image.shape, "UINT8")
        given.set_shared_memory("frames", size)
        wanted = triton.InferRequestedOutput("y")
        wanted.set_shared_memory("frames", size, offset=size)
        result = client.infer("image", [given], outputs=[wanted])
        assert result.get_output("y")["parameters"]["shared_memory_byte_size"] == size
        found = triton_memory.get_contents_as_numpy(handle, np.uint8, image.shape, 64 + size)
        np.testing.assert_array_equal(found, image)
        client.unregister_system_shared_memory("frames")
        assert client.get_system_shared_memory_status() == []
    finally:
        del found
        triton_memory.destroy_shared_memory_region(handle)
        client.close()
    assert not Path("/dev/shm", key).exists()


def test_tritonclient_hears_why_a_region_is_refused(running: Any) -> None:
    client = triton.InferenceServerClient(running.address)
    with pytest.raises(triton.InferenceServerException, match="No such file or directory"):
        client.register_system_shared_memory("r", "/edgeq-none", 12)
    with pytest.raises(triton.InferenceServerException, match="no CUDA IPC"):
        client.register_cuda_shared_memory("r", b"AAAA", 0, 12)
    assert client.get_cuda_shared_memory_status() == []
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    client.close()
