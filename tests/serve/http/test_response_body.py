from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.errors import EngineError, InvalidRequestError
from edgeq.serve.http.response_body import InferResponse, encode_infer
from edgeq.serve.requests import InferRequest, RequestedOutput
from edgeq.serve.tensors import DTYPES

OUTPUTS = {"y": np.array([[1.5, 2.5]], np.float32), "z": np.array([3], np.int8)}


def body(response: InferResponse) -> bytes:
    return b"".join(bytes(part) for part in response.parts)


def request(**changes: object) -> InferRequest:
    return InferRequest(**{"id": "", "inputs": {}, **changes})  # type: ignore[arg-type]


def test_json_is_the_default_and_flat() -> None:
    response = encode_infer(request(), "m", "4", OUTPUTS)
    assert response.header_length is None
    assert json.loads(body(response)) == {
        "model_name": "m",
        "model_version": "4",
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.5]},
            {"name": "z", "datatype": "INT8", "shape": [1], "data": [3]},
        ],
    }


def test_the_id_comes_back() -> None:
    assert json.loads(body(encode_infer(request(id="q"), "m", "4", OUTPUTS)))["id"] == "q"


def test_outputs_come_in_the_order_and_form_asked_for() -> None:
    wanted = (RequestedOutput("z", is_binary=True), RequestedOutput("y", is_binary=False))
    response = encode_infer(request(outputs=wanted, is_binary=True), "m", "4", OUTPUTS)
    assert response.header_length is not None
    head = json.loads(body(response)[: response.header_length])
    assert [output["name"] for output in head["outputs"]] == ["z", "y"]
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 1}
    assert head["outputs"][1]["data"] == [1.5, 2.5]
    assert body(response)[response.header_length :] == b"\x03"


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=4),
        st.sampled_from(sorted(DTYPES.values(), key=str)).flatmap(
            lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
        ),
        max_size=4,
    )
)
def test_binary_responses_hold_every_output_bit_for_bit(outputs: dict[str, np.ndarray]) -> None:
    response = encode_infer(request(is_binary=True), "m", "1", outputs)
    end = len(body(response)) if response.header_length is None else response.header_length
    offset = end
    described = json.loads(body(response)[:end])["outputs"]
    for output, (name, array) in zip(described, outputs.items(), strict=True):
        size = output["parameters"]["binary_data_size"]
        assert output["name"] == name
        assert tuple(output["shape"]) == array.shape
        assert body(response)[offset : offset + size] == array.tobytes()
        offset += size
    assert offset == len(body(response))


def test_classes_are_bytes_in_both_forms() -> None:
    text = (RequestedOutput("y", is_binary=False, classes=1),)
    described = json.loads(body(encode_infer(request(outputs=text), "m", "1", OUTPUTS)))
    assert described["outputs"][0] == {
        "name": "y",
        "datatype": "BYTES",
        "shape": [1, 1],
        "data": ["2.500000:1"],
    }
    raw = (RequestedOutput("y", is_binary=True, classes=1),)
    response = encode_infer(request(outputs=raw), "m", "1", OUTPUTS)
    assert body(response)[response.header_length :] == b"\x0a\0\0\x002.500000:1"


def test_an_output_that_is_not_there_is_refused() -> None:
    wanted = (RequestedOutput("w", is_binary=True),)
    with pytest.raises(InvalidRequestError, match=r"output 'w' is unknown; the model gives \['y'"):
        encode_infer(request(outputs=wanted), "m", "1", OUTPUTS)


def test_nan_passes_in_binary_and_not_in_json() -> None:
    outputs = {"y": np.array([np.nan], np.float32)}
    with pytest.raises(EngineError, match="holds NaN"):
        encode_infer(request(), "m", "1", outputs)
    response = encode_infer(request(is_binary=True), "m", "1", outputs)
    assert body(response)[response.header_length :] == outputs["y"].tobytes()
