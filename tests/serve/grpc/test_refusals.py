"""Errors -> status, details, and what travels beside them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from edgeq import errors
from edgeq.errors import EdgeqError, EngineError, UnavailableError
from edgeq.serve.grpc.status import MAX_DETAILS, STATUS, code_of, header_text, refusal_of
from edgeq.serve.rights import Rights
from tests.serve.grpc.conftest import ECHO, Serving, StartGrpc

SECRET = "swordfish"


def infer_request(model: str = "echo", **changes: Any) -> bytes:
    request = triton.service_pb2.ModelInferRequest(model_name=model, **changes)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.raw_input_contents.append(ECHO.tobytes())
    return bytes(request.SerializeToString())


def refused(serving: Serving, name: str, content: bytes, **options: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        serving.call(name, content, **options)
    return caught.value


def test_every_request_error_has_a_status_of_its_own() -> None:
    kinds = [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.RequestError) and kind is not errors.RequestError
    ]
    assert set(kinds) <= set(STATUS)
    assert code_of(EngineError("x")) is code_of(ValueError("x")) is grpc.StatusCode.INTERNAL
    assert code_of(asyncio.CancelledError()) is grpc.StatusCode.CANCELLED


def test_details_and_hints_are_fit_for_headers() -> None:
    refusal = refusal_of(EdgeqError("ü\udcff" * MAX_DETAILS, hint="größer\nist besser"))
    assert len(refusal.details) == MAX_DETAILS
    assert refusal.details.startswith("ü?")
    assert refusal.metadata == (("x-edgeq-hint", r"gr\xf6\xdfer ist besser"),)
    assert header_text("plain") == "plain"


@pytest.mark.parametrize(
    ("content", "code", "details"),
    [
        (infer_request("unheard"), "NOT_FOUND", "model 'unheard' is unknown"),
        (infer_request(model_version="9"), "NOT_FOUND", "no version '9'"),
        (infer_request("image"), "INVALID_ARGUMENT", "input 'x' has datatype FP32"),
        (infer_request("cold"), "UNAVAILABLE", "no engine yet"),
        (b"\xff\xff", "INVALID_ARGUMENT", "no inference.ModelInferRequest"),
        (b"", "NOT_FOUND", "model '' is unknown"),
    ],
)
def test_an_error_has_its_status(serving: Serving, content: bytes, code: str, details: str) -> None:
    error = refused(serving, "ModelInfer", content)
    assert error.code().name == code
    assert details in error.details()
    assert [each.code for each in serving.records] == [code]


def test_an_answer_names_version_and_engine(serving: Serving) -> None:
    with grpc.insecure_channel(serving.address) as channel:
        method = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        _, call = method.with_call(infer_request(), timeout=10)
    told = dict(call.trailing_metadata())
    assert told == {"x-edgeq-model-version": "3", "x-edgeq-engine": "cpu-int8"}


def test_an_overload_says_when_to_try_again(serving: Serving) -> None:
    serving.plane.submit_error = UnavailableError("full", retry_after_s=3, hint="Send less.")
    error = refused(serving, "ModelInfer", infer_request())
    told = dict(error.trailing_metadata())
    assert told["grpc-retry-pushback-ms"] == "3000"
    assert told["retry-after"] == "3"
    assert told["x-edgeq-hint"] == "Send less."
    assert told["x-edgeq-model-version"] == "3"


def test_what_fails_unexpectedly_is_in_the_log_only(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> dict[str, np.ndarray]:
        raise RuntimeError("secret of the house")

    serving.plane.behave = fail
    with caplog.at_level(logging.ERROR):
        error = refused(serving, "ModelInfer", infer_request())
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in error.details()
    assert "secret of the house" in caplog.text


def test_an_unknown_output_is_refused_before_the_model_runs(serving: Serving) -> None:
    request = triton.service_pb2.ModelInferRequest.FromString(infer_request())
    request.outputs.add(name="z")
    error = refused(serving, "ModelInfer", request.SerializeToString())
    assert "output 'z' is unknown" in error.details()
    assert serving.plane.submitted == []


def test_a_call_that_nobody_knows_is_unimplemented(serving: Serving) -> None:
    assert refused(serving, "ModelDream", b"").code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_token_opens_what_needs_one(start_grpc: StartGrpc) -> None:
    serving = start_grpc(rights=Rights(token=SECRET, is_exposed=True))
    for name in ("ModelInfer", "ModelMetadata", "RepositoryModelLoad", "RepositoryIndex"):
        assert refused(serving, name, b"").code() is grpc.StatusCode.UNAUTHENTICATED
    wrong = refused(serving, "ModelInfer", b"", metadata=[("authorization", "Bearer x")])
    assert wrong.code() is grpc.StatusCode.UNAUTHENTICATED
    headers = {"authorization": f"Bearer {SECRET}"}
    with serving.client() as client:
        assert client.is_server_ready()  # health is open
        assert client.is_model_ready("echo", headers=headers)
        client.load_model("echo", headers=headers)
    with grpc.insecure_channel(serving.address) as channel:
        stream = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        with pytest.raises(grpc.RpcError, match="no valid token"):
            list(stream(iter([b""]), timeout=10))


def test_without_a_token_to_know_loads_from_beyond_are_forbidden(start_grpc: StartGrpc) -> None:
    serving = start_grpc(rights=Rights(is_exposed=True, is_anonymous=True))
    assert serving.client().is_model_ready("echo")
    error = refused(serving, "RepositoryModelUnload", b"")
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "no token is configured" in error.details()
