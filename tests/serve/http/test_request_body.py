from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.errors import InvalidRequestError, RequestError, UnavailableError
from edgeq.serve.http.request_body import load_object, parse_infer, remembering_heads
from edgeq.serve.requests import InferRequest, RequestedOutput
from edgeq.serve.tensors import DATATYPES, DTYPES
from edgeq.tflite.runtime import TensorSpec

X = {"name": "x", "shape": [2], "datatype": "FP32", "data": [1, 2]}
SPECS = (TensorSpec("x", (2,), np.dtype(np.float32)),)
OUTPUTS = (TensorSpec("y", (2,), np.dtype(np.float32)),)


def parse(head: Any, tail: bytes | None = None, *, specs: Any = (), outputs: Any = ()) -> Any:
    text = json.dumps(head).encode()
    length = None if tail is None else str(len(text))
    return parse_infer(text + (tail or b""), length, specs, outputs)


def entry(name: str, array: np.ndarray, *, binary: bool) -> dict[str, Any]:
    described = {"name": name, "shape": list(array.shape), "datatype": DATATYPES[array.dtype]}
    if binary:
        return {**described, "parameters": {"binary_data_size": array.nbytes}}
    return {**described, "data": array.reshape(-1).tolist()}


named_arrays = st.dictionaries(
    st.text(max_size=5),
    st.sampled_from(sorted(DTYPES)).flatmap(
        lambda datatype: hnp.arrays(
            DTYPES[datatype],
            hnp.array_shapes(min_dims=0, max_dims=3, max_side=3),
            elements={"allow_nan": False, "allow_infinity": False} if "FP" in datatype else None,
        )
    ),
    min_size=1,
    max_size=3,
)


@settings(deadline=None)
@given(named_arrays, st.data())
def test_what_a_client_encodes_is_what_is_parsed(
    arrays: dict[str, np.ndarray], data: st.DataObject
) -> None:
    flags = {name: data.draw(st.booleans()) for name in arrays}
    head = {"inputs": [entry(name, array, binary=flags[name]) for name, array in arrays.items()]}
    tail = b"".join(array.tobytes() for name, array in arrays.items() if flags[name])
    got = parse(head, tail).inputs
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


def test_every_field_that_clients_send_is_read() -> None:
    head = {
        "id": "abc",
        "model_name": "kserve sends this",
        "parameters": {
            "sequence_id": 7,
            "sequence_start": True,
            "sequence_end": False,
            "priority": 1,
            "timeout": 5000,
            "binary_data_output": True,
        },
        "inputs": [X],
        "outputs": [
            {"name": "y"},
            {"name": "z", "parameters": {"binary_data": False, "classification": 3}},
        ],
    }
    request = parse(head)
    assert request.id == "abc"
    assert request.timeout_s == 0.005
    assert request.is_binary
    assert request.outputs == (RequestedOutput("y", True), RequestedOutput("z", False, 3))


def test_nulls_and_empty_lists_are_as_absent() -> None:
    request = parse({"id": None, "parameters": None, "inputs": [X], "outputs": []})
    assert (request.id, request.outputs, request.timeout_s) == ("", (), None)
    assert parse({"inputs": [X], "parameters": {"timeout": 0}}).timeout_s is None


def test_binary_inputs_are_taken_in_order_around_json_ones() -> None:
    a, c = np.arange(3, dtype=np.int16), np.arange(2, dtype=np.uint8)
    inputs = [entry("a", a, binary=True), {**X, "name": "b"}, entry("c", c, binary=True)]
    got = parse({"inputs": inputs}, a.tobytes() + c.tobytes()).inputs
    assert got["a"].tolist() == [0, 1, 2]
    assert got["b"].tolist() == [1, 2]
    assert got["c"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ([], "the body is .*; a JSON object is expected"),
        ({}, "has no inputs"),
        ({"inputs": []}, "has no inputs"),
        ({"inputs": {}}, "inputs is .*; a list of objects"),
        ({"inputs": [1]}, "a list of objects"),
        ({"inputs": [{}]}, "an entry of inputs has name None; a string"),
        ({"inputs": [{**X, "name": 3}]}, "has name 3; a string"),
        ({"inputs": [X, X]}, "'x' is in inputs twice"),
        ({"inputs": [{**X, "datatype": "FP31"}]}, "has datatype 'FP31'"),
        ({"inputs": [{**X, "shape": [-2]}]}, "has shape"),
        ({"inputs": [{**X, "shape": [3]}]}, "has 2 values; shape .3. takes 3"),
        ({"inputs": [{**X, "data": None}]}, "has none of data, binary_data_size and"),
        ({"inputs": [{**X, "parameters": {"binary_data_size": 8}}]}, "has more than one of data"),
        ({"inputs": [{**X, "parameters": 3}]}, "input 'x' has parameters 3; a JSON object"),
        (
            {"inputs": [{**X, "data": None, "parameters": {"binary_data_size": -8}}]},
            "has binary_data_size -8; an integer of 0 or more",
        ),
        (
            {"inputs": [{**X, "data": None, "parameters": {"binary_data_size": True}}]},
            "has binary_data_size True; an integer",
        ),
        (
            {"inputs": [{**X, "data": None, "parameters": {"binary_data_size": 8}}]},
            "has binary_data_size 8; 0 bytes are left",
        ),
        (
            {"inputs": [{**X, "parameters": {"shared_memory_region": "r"}}]},
            "no shared_memory_byte_size",
        ),
        ({"inputs": [X], "id": 7}, "id is 7; a string"),
        ({"inputs": [X], "parameters": []}, "the request has parameters"),
        ({"inputs": [X], "parameters": {"timeout": -1}}, "has timeout -1"),
        ({"inputs": [X], "parameters": {"timeout": "5"}}, "has timeout '5'"),
        ({"inputs": [X], "parameters": {"binary_data_output": 1}}, "has binary_data_output 1"),
        ({"inputs": [X], "outputs": 3}, "outputs is 3"),
        ({"inputs": [X], "outputs": [{"name": "y"}] * 2}, "'y' is in outputs twice"),
        ({"inputs": [X], "outputs": [{"name": "z"}]}, "output 'z' is unknown; the model gives"),
        (
            {"inputs": [X], "outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]},
            "output 'y' has binary_data 'yes'; true or false",
        ),
        (
            {"inputs": [X], "outputs": [{"name": "y", "parameters": {"classification": -1}}]},
            "has classification -1",
        ),
        (
            {"inputs": [X], "outputs": [{"name": "y", "parameters": {"shared_memory_region": ""}}]},
            "no shared_memory_byte_size",
        ),
        ({"inputs": [{**X, "name": "w"}]}, "input 'w' is unknown; the model takes .'x'."),
        ({"inputs": [X, {**X, "name": "w"}]}, "input 'w' is unknown"),
        ({"inputs": [{**X, "datatype": "INT32"}]}, "has datatype INT32; the model takes FP32"),
        ({"inputs": [{**X, "shape": [1, 2]}]}, "has shape .1, 2.; the model takes .2."),
    ],
)
def test_malformed_requests_are_refused_by_name(head: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        parse(head, specs=SPECS, outputs=OUTPUTS)


def test_a_missing_input_is_named() -> None:
    specs = (*SPECS, TensorSpec("w", (1,), np.dtype(np.int32)))
    with pytest.raises(InvalidRequestError, match="input 'w' is missing; the model takes"):
        parse({"inputs": [X]}, specs=specs)


def test_a_huge_name_does_not_make_a_huge_message() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse({"inputs": [{**X, "name": "x" * 100_000}]}, specs=SPECS)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'{"inputs": [NaN]}', "the body is not JSON"),
        (b'{"inputs": [-Infinity]}', "the body is not JSON"),
        (b"[" + b"9" * 5000 + b"]", "the body is not JSON|a JSON object is expected"),
        (b"{} {}", "the body is not JSON"),
    ],
)
def test_what_is_not_a_json_object_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        load_object(body)


@pytest.mark.parametrize("text", ["-1", "1e3", "", "abc", " 4", "99999", "9" * 40, "²", "0x4"])
def test_a_wrong_header_length_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="Inference-Header-Content-Length is"):
        parse_infer(b"{}", text)


def test_bytes_after_the_last_input_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="has 3 bytes after the last input"):
        parse({"inputs": [X]}, b"abc")


def test_sizes_beyond_the_body_are_refused() -> None:
    head = {"inputs": [entry("x", np.zeros(2, np.float32), binary=True)]}
    with pytest.raises(InvalidRequestError, match="has binary_data_size 8; 5 bytes are left"):
        parse(head, bytes(5))
    with pytest.raises(InvalidRequestError, match="has binary_data_size 8; 0 bytes are left"):
        parse(head)


def test_raw_binary_is_the_one_input() -> None:
    array = np.array([1.5, -2], np.float32)
    request = parse_infer(array.tobytes(), "0", SPECS)
    assert request.is_binary
    assert request.inputs["x"].tolist() == [1.5, -2]


def test_raw_binary_decides_one_free_extent() -> None:
    spec = TensorSpec("x", (-1, 2), np.dtype(np.int16))
    assert parse_infer(bytes(12), "0", (spec,)).inputs["x"].shape == (3, 2)


@pytest.mark.parametrize(
    ("body", "shapes", "message"),
    [
        (bytes(8), [(2,), (2,)], "only a model with one input takes that"),
        (bytes(7), [(2,)], "has 7 bytes; FP32 of shape .2. takes 8"),
        (bytes(9), [(-1, 2)], "has 9 bytes; a multiple of 8"),
        (b"", [(-1, 2)], "has 0 bytes; a multiple of 8"),
        (bytes(8), [(-1, -1)], "which the size alone does not decide"),
    ],
)
def test_raw_binary_that_does_not_fit_is_refused(
    body: bytes, shapes: list[tuple[int, ...]], message: str
) -> None:
    specs = [TensorSpec(f"x{i}", s, np.dtype(np.float32)) for i, s in enumerate(shapes)]
    with pytest.raises(InvalidRequestError, match=message):
        parse_infer(body, "0", specs)


def test_raw_binary_for_a_model_without_an_engine_is_to_come_again_later() -> None:
    with pytest.raises(UnavailableError, match="no engine is there to say what of"):
        parse_infer(bytes(8), "0", ())


VALID_HEAD = json.dumps(
    {
        "id": "abc",
        "parameters": {"timeout": 5000, "binary_data_output": True},
        "inputs": [
            {**X, "parameters": {"a": 1}},
            entry("w", np.zeros((1, 3), np.int16), binary=True),
        ],
        "outputs": [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}],
    }
).encode()
VALID = VALID_HEAD + bytes(6)

damage = st.lists(
    st.tuples(
        st.sampled_from(["set", "cut", "insert", "delete"]),
        st.integers(0, len(VALID)),
        st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b'"', b"[", b"null", b"-1"])),
    ),
    max_size=5,
)


def damaged(body: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, at, what in changes:
        after = {"set": at + len(what), "delete": at + 3, "cut": len(body), "insert": at}[kind]
        body = body[:at] + (what if kind in ("set", "insert") else b"") + body[after:]
    return body


@settings(max_examples=250, deadline=None)
@given(damage, st.one_of(st.none(), st.integers(-2, len(VALID) + 3).map(str), st.text(max_size=3)))
def test_damage_never_raises_anything_but_a_request_error(
    changes: list[tuple[str, int, bytes]], length: str | None
) -> None:
    specs = (*SPECS, TensorSpec("w", (1, -1), np.dtype(np.int16)))
    try:
        request = parse_infer(damaged(VALID, changes), length, specs, OUTPUTS)
    except RequestError:
        return
    assert isinstance(request, InferRequest)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner)),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "id"]),
    json_values,
)
def test_any_json_in_any_field_is_parsed_or_refused(key: str, value: Any) -> None:
    head = {"inputs": [X], "outputs": [{"name": "y"}], "parameters": {}}
    if key in ("name", "shape", "datatype", "data"):
        head["inputs"] = [{**X, key: value}]
    else:
        head[key] = value
    with contextlib.suppress(InvalidRequestError):
        parse(head, specs=SPECS, outputs=OUTPUTS)


# ---- remembered heads


def test_a_remembered_head_is_parsed_once_for_bytes_that_differ() -> None:
    head_of = remembering_heads()
    text = json.dumps({"inputs": [entry("x", np.zeros(2, np.float32), binary=True)]}).encode()
    for values in ([1, 2], [3, 4]):
        tail = np.array(values, np.float32).tobytes()
        got = parse_infer(text + tail, str(len(text)), SPECS, head_of=head_of)
        assert got.inputs["x"].tolist() == values
    again = bytes(bytearray(text))
    assert head_of(text, SPECS, ()) is head_of(again, SPECS, ())


def test_a_long_head_is_not_remembered() -> None:
    head_of = remembering_heads()
    text = json.dumps({"inputs": [{**X, "shape": [2000], "data": [1] * 2000}]}).encode()
    assert head_of(text, (), ()) is not head_of(text, (), ())


def test_values_of_a_remembered_head_cannot_be_changed() -> None:
    array = parse({"inputs": [X]}).inputs["x"]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 9


def test_a_head_that_was_refused_is_refused_again() -> None:
    head_of = remembering_heads()
    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="has no inputs"):
            head_of(b"{}", (), ())


def test_a_remembered_head_is_held_against_the_model_that_is_asked_now() -> None:
    head_of = remembering_heads()
    text = json.dumps({"inputs": [entry("x", np.zeros(2, np.float32), binary=True)]}).encode()
    head_of(text, SPECS, ())
    other = (TensorSpec("x", (3,), np.dtype(np.float32)),)
    with pytest.raises(InvalidRequestError, match="the model takes \\[3\\]"):
        head_of(text, other, ())


def test_no_more_heads_are_remembered_than_there_is_room_for() -> None:
    head_of = remembering_heads()
    texts = [json.dumps({"id": str(n), "inputs": [X]}).encode() for n in range(300)]
    first = head_of(texts[0], (), ())
    latest = [head_of(text, (), ()) for text in texts][-1]
    assert head_of(texts[0], (), ()) is not first
    assert head_of(texts[-1], (), ()) is latest


def test_arrays_of_a_body_that_came_in_pieces_cannot_be_changed_either() -> None:
    text = json.dumps({"inputs": [entry("x", np.zeros(2, np.float32), binary=True)]}).encode()
    body = bytearray(text + bytes(8))
    array = parse_infer(body, str(len(text)), SPECS, head_of=remembering_heads()).inputs["x"]
    assert not array.flags.writeable


def test_shared_memory_is_named_where_there_is_none() -> None:
    place = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    tensor = {"name": "x", "shape": [2], "datatype": "FP32", "parameters": place}
    with pytest.raises(InvalidRequestError, match="'x' is in shared memory, of which there is no"):
        parse({"inputs": [tensor]})
