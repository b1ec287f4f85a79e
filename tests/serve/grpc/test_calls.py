"""Every call of NVIDIA's client, and the parts of the protocol that it cannot send."""

from __future__ import annotations

import json
from multiprocessing import shared_memory
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tests.serve.conftest import MODELS
from tests.serve.grpc.conftest import ECHO, Serving, tensor


def test_health_is_told(serving: Serving) -> None:
    with serving.client() as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        serving.plane.is_up = False
        assert not client.is_server_ready()
        assert client.is_server_live()


def test_a_model_is_ready_where_it_serves(serving: Serving) -> None:
    with serving.client() as client:
        assert client.is_model_ready("echo")
        assert client.is_model_ready("echo", "2")
        assert not client.is_model_ready("cold")
        assert not client.is_model_ready("echo", "9")
        assert not client.is_model_ready("unheard")


def test_server_and_models_are_described(serving: Serving) -> None:
    with serving.client() as client:
        server = client.get_server_metadata()
        assert (server.name, "statistics" in server.extensions) == ("edgeq", True)
        image = client.get_model_metadata("image", as_json=True)
        assert image["inputs"] == [
            {"name": "x", "datatype": "UINT8", "shape": ["1", "96", "96", "3"]}
        ]
        assert image["versions"] == ["3", "2"]
        config = client.get_model_config("pair").config
        assert [(each.name, list(each.dims)) for each in config.input] == [
            ("a", [-1, 2]),
            ("b", [2]),
        ]
        assert config.parameters["engine"].string_value == "cpu-int8"
        assert config.backend == "edgeq"


def test_the_repository_is_listed(serving: Serving) -> None:
    with serving.client() as client:
        rows = client.get_model_repository_index().models
        assert [row.name for row in rows] == [model.name for model in MODELS]
        assert {row.state for row in rows} == {"READY", "UNAVAILABLE"}
    # tritonclient cannot ask for the ready ones only
    ready = triton.service_pb2.RepositoryIndexRequest(ready=True)
    answer = serving.call("RepositoryIndex", ready.SerializeToString())
    rows = triton.service_pb2.RepositoryIndexResponse.FromString(answer).models
    assert {row.state for row in rows} == {"READY"}


def test_models_are_loaded_and_unloaded(serving: Serving) -> None:
    with serving.client() as client:
        client.load_model("echo")
        config = json.dumps({"max_batch_size": 0})
        client.load_model("fresh", config=config, files={"file:1/model.tflite": b"TFL3"})
        client.unload_model("echo", unload_dependents=True)
    assert serving.plane.calls == [("load", "echo"), ("load", "fresh"), ("unload", "echo")]
    assert serving.plane.loads == [(None, None), (config, {"1/model.tflite": b"TFL3"})]


@pytest.mark.parametrize(
    ("name", "field", "value", "reason"),
    [
        ("colour", "string_param", "red", "load has parameter 'colour'"),
        ("config", "int64_param", 5, "config is 5; a text of JSON"),
        ("file:1/m.tflite", "string_param", "x", "'file:1/m.tflite' is 'x'; a bytes_param"),
    ],
)
def test_a_load_with_a_strange_parameter_is_refused(
    serving: Serving, name: str, field: str, value: Any, reason: str
) -> None:
    request = triton.service_pb2.RepositoryModelLoadRequest(model_name="echo")
    setattr(request.parameters[name], field, value)
    with pytest.raises(Exception, match=reason):
        serving.call("RepositoryModelLoad", request.SerializeToString())
    assert serving.plane.calls == []


@pytest.mark.parametrize("is_inline", [False, True])
def test_an_inference_is_answered(
    serving: Serving, echo: triton.InferInput, is_inline: bool
) -> None:
    serving.plane.is_inline = is_inline
    with serving.client() as client:
        result = client.infer("echo", [echo], request_id="7")
    np.testing.assert_array_equal(result.as_numpy("y"), ECHO)
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("7", "echo", "3")
    assert [(each.protocol, each.code) for each in serving.records] == [("grpc", "OK")]


def test_version_priority_and_timeout_reach_the_model(
    serving: Serving, echo: triton.InferInput
) -> None:
    with serving.client() as client:
        client.infer("echo", [echo], model_version="3", priority=2, timeout=250_000)
        client.infer("echo", [echo], sequence_id=7, sequence_start=True)
    assert serving.plane.submitted == [("echo", "3", 0.25), ("echo", None, 5)]
    assert serving.plane.priorities == [2, 0]


def test_a_clients_deadline_bounds_the_timeout(serving: Serving, echo: triton.InferInput) -> None:
    with serving.client() as client:
        client.infer("echo", [echo], client_timeout=2.0)
        client.infer("echo", [echo], client_timeout=2.0, timeout=100_000)
    first, second = (timeout for _, _, timeout in serving.plane.submitted)
    assert first is not None
    assert 1 < first < 2.5  # gRPC's clock runs up to 0.1 s beside this one
    assert second == 0.1


def test_named_outputs_come_in_their_order(serving: Serving) -> None:
    a, b = np.ones((3, 2), np.float32), np.array([5, -6], np.int32)
    wanted = [triton.InferRequestedOutput("b"), triton.InferRequestedOutput("a")]
    with serving.client() as client:
        result = client.infer("pair", [tensor("b", b), tensor("a", a)], outputs=wanted)
    assert [each.name for each in result.get_response().outputs] == ["b", "a"]
    np.testing.assert_array_equal(result.as_numpy("a"), a)
    np.testing.assert_array_equal(result.as_numpy("b"), b)


def test_the_best_classes_are_named(serving: Serving, echo: triton.InferInput) -> None:
    wanted = [triton.InferRequestedOutput("y", class_count=2)]
    with serving.client() as client:
        result = client.infer("echo", [echo], outputs=wanted)
    assert result.as_numpy("y").tolist() == [[b"4.000000:3", b"1.500000:0"]]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_request_is_understood(
    serving: Serving, echo: triton.InferInput, algorithm: str
) -> None:
    with serving.client() as client:
        result = client.infer("echo", [echo], compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("y"), ECHO)


def test_statistics_count_what_was_answered(serving: Serving, echo: triton.InferInput) -> None:
    with serving.client() as client:
        client.infer("echo", [echo])
        with pytest.raises(InferenceServerException):
            client.infer("echo", [tensor("x", ECHO[:, :3])])
        every = client.get_inference_statistics().model_stats
        one = client.get_inference_statistics("echo", "3").model_stats[0]
        assert len(client.get_inference_statistics("echo").model_stats) == 2
    assert {row.name for row in every} == {"echo", "image", "pair"}
    assert (one.inference_stats.success.count, one.inference_stats.fail.count) == (1, 1)
    assert one.inference_stats.success.ns > one.inference_stats.compute_infer.ns > 0
    assert one.last_inference > 0


def test_tensors_travel_by_shared_memory(serving: Serving) -> None:
    segment = shared_memory.SharedMemory(create=True, size=64)
    try:
        segment.buf[:16] = ECHO.tobytes()
        x = triton.InferInput("x", [1, 4], "FP32")
        x.set_shared_memory("tensors", 16)
        y = triton.InferRequestedOutput("y")
        y.set_shared_memory("tensors", 32, offset=16)
        with serving.client() as client:
            client.register_system_shared_memory("tensors", segment.name, 64)
            status = client.get_system_shared_memory_status().regions["tensors"]
            assert (status.name, status.byte_size) == ("tensors", 64)
            assert "tensors" in client.get_system_shared_memory_status("tensors").regions
            response = client.infer("echo", [x], outputs=[y]).get_response()
            client.unregister_system_shared_memory("tensors")
            client.unregister_system_shared_memory()
            assert not client.get_system_shared_memory_status().regions
        assert bytes(segment.buf[16:32]) == ECHO.tobytes()
        assert response.outputs[0].parameters["shared_memory_byte_size"].int64_param == 16
        assert response.outputs[0].parameters["shared_memory_offset"].int64_param == 16
        assert not response.raw_output_contents
    finally:
        segment.close()
        segment.unlink()


def test_cuda_regions_are_refused_with_the_reason(serving: Serving) -> None:
    with serving.client() as client:
        assert not client.get_cuda_shared_memory_status().regions
        client.unregister_cuda_shared_memory()
        with pytest.raises(InferenceServerException, match="no CUDA IPC") as refused:
            client.register_cuda_shared_memory("r", b"aGFuZGxl", 0, 64)
        assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
        with pytest.raises(InferenceServerException, match="there are none"):
            client.get_cuda_shared_memory_status("r")


def test_trace_and_log_settings_are_refused_with_the_reason(serving: Serving) -> None:
    with serving.client() as client:
        for call in (client.get_trace_settings, client.update_trace_settings):
            with pytest.raises(InferenceServerException, match="trace settings are not kept"):
                call()
        for call in (client.get_log_settings, lambda: client.update_log_settings({"log_info": 1})):
            with pytest.raises(InferenceServerException, match=r"set log\.level"):
                call()
