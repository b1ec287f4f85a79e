"""A kind of client and where a server is -> something that sends one request and waits for it.

tritonclient's gRPC and kserve cannot be imported into one process (both bring the same protobuf
names), so that every kind imports what it needs when it is opened.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tools.serve_bench import wire
from tools.serve_bench.regions import Region
from tools.serve_bench.workloads import Workload

Array = npt.NDArray[Any]

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
GRPC_OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


class ClientError(Exception):
    """The server does not answer this client as it should; the message says how."""


@dataclass(frozen=True)
class Target:
    """Where a server is; what it does not have is None."""

    model: str
    http_port: int | None = None
    grpc_port: int | None = None
    unix_socket: Path | None = None

    @property
    def tcp(self) -> tuple[str, int]:
        if self.http_port is None:
            raise ClientError("the server has no HTTP port")
        return "127.0.0.1", self.http_port

    @property
    def unix(self) -> Path:
        if self.unix_socket is None:
            raise ClientError("the server has no Unix socket")
        return self.unix_socket

    @property
    def grpc(self) -> str:
        if self.grpc_port is None:
            raise ClientError("the server has no gRPC port")
        return f"127.0.0.1:{self.grpc_port}"


@dataclass(frozen=True)
class Client:
    """`ask` sends the input of that index and returns the answer, of which `output` takes the
    values, flat; errors of any type are the request's."""

    ask: Callable[[int], Any]
    output: Callable[[Any], Array]
    close: Callable[[], None] = lambda: None


def open_client(kind: str, target: Target, workload: Workload) -> Client:
    """Return a connected client.

    Raises:
        ClientError: the server has not what the client needs.
        Exception: whatever a client's library raises.
    """
    return KINDS[kind](target, workload)


def _sender(
    address: tuple[str, int] | Path, requests: list[bytes], output: Callable[[wire.Answer], Array]
) -> Client:
    connection = wire.Connection(address)

    def ask(index: int) -> wire.Answer:
        return checked(connection.ask(requests[index]))

    return Client(ask, output, connection.close)


def checked(answer: wire.Answer) -> wire.Answer:
    """Return an answer that is 200.

    Raises:
        ClientError: it is another one.
    """
    if answer.status != 200:
        raise ClientError(f"HTTP {answer.status}: {answer.body[:150].decode(errors='replace')}")
    return answer


def _of_each(workload: Workload, make: Callable[[Array], bytes]) -> list[bytes]:
    return [make(values) for values in workload.inputs]


def _binary(address: tuple[str, int] | Path, target: Target, workload: Workload) -> Client:
    w, dtype = workload, workload.outputs.dtype
    requests = _of_each(w, lambda v: wire.binary_request(
        target.model, w.input_name, v, w.datatype, w.output_name))  # fmt: skip
    return _sender(address, requests, lambda answer: np.frombuffer(answer.tensors, dtype))


def _binary_tcp(target: Target, workload: Workload) -> Client:
    return _binary(target.tcp, target, workload)


def _binary_unix(target: Target, workload: Workload) -> Client:
    return _binary(target.unix, target, workload)


def _json(target: Target, workload: Workload) -> Client:
    w, dtype = workload, workload.outputs.dtype
    requests = _of_each(w, lambda v: wire.json_request(
        target.model, w.input_name, v, w.datatype, w.output_name))  # fmt: skip

    def output(answer: wire.Answer) -> Array:
        return wire.decoded(answer.json["outputs"][0]["data"], dtype)

    return _sender(target.tcp, requests, output)


def _lit(*, as_base64: bool) -> Callable[[Target, Workload], Client]:
    def open_(target: Target, workload: Workload) -> Client:
        dtype = workload.outputs.dtype
        requests = _of_each(workload, lambda v: wire.lit_request(v, as_base64=as_base64))
        return _sender(target.tcp, requests, lambda a: wire.decoded(a.json["data"], dtype))

    return open_


def _shared(target: Target, workload: Workload) -> Client:
    """Input and output in registered regions; each request copies its input in, its answer out."""
    w = workload
    connection = wire.Connection(target.unix)
    given, taken = Region(w.inputs[0].nbytes), Region(w.outputs[0].nbytes)
    try:
        for region in (given, taken):
            checked(connection.ask(region.registration()))
    except Exception:
        given.close()
        taken.close()
        raise
    request = wire.shared_request(
        target.model, w.input_name, w.inputs[0], w.datatype, w.output_name,
        w.outputs[0].nbytes, (given.name, taken.name),
    )  # fmt: skip
    contents = [values.tobytes() for values in w.inputs]

    def ask(index: int) -> bytes:
        given.write(contents[index])
        checked(connection.ask(request))
        return taken.read()

    def close() -> None:
        for region in (given, taken):
            connection.ask(region.unregistration())
            region.close()
        connection.close()

    return Client(ask, lambda content: np.frombuffer(content, w.outputs.dtype), close)


def _grpc_raw(target: Target, workload: Workload) -> Client:
    """Bytes that were packed before, over grpc's own channel: the least that gRPC costs."""
    import grpc
    from tritonclient.grpc import service_pb2

    requests = []
    for values in workload.inputs:
        message = service_pb2.ModelInferRequest(model_name=target.model)
        tensor = message.inputs.add()
        tensor.name, tensor.datatype = workload.input_name, workload.datatype
        tensor.shape.extend(workload.shape)
        message.outputs.add().name = workload.output_name
        message.raw_input_contents.append(values.tobytes())
        requests.append(message.SerializeToString())
    channel = grpc.insecure_channel(target.grpc, GRPC_OPTIONS)
    call = channel.unary_unary(GRPC_METHOD)

    def output(answer: bytes) -> Array:
        response = service_pb2.ModelInferResponse.FromString(answer)
        return np.frombuffer(response.raw_output_contents[0], workload.outputs.dtype)

    return Client(lambda index: call(requests[index], timeout=wire.TIMEOUT_S), output,
                  channel.close)  # fmt: skip


def _triton_http(target: Target, workload: Workload) -> Client:
    import tritonclient.http as triton

    host, port = target.tcp
    return _triton(triton, triton.InferenceServerClient(f"{host}:{port}"), target, workload,
                   {"binary_data": True})  # fmt: skip


def _triton_grpc(target: Target, workload: Workload) -> Client:
    import tritonclient.grpc as triton

    return _triton(triton, triton.InferenceServerClient(target.grpc), target, workload, {})


def _triton(
    triton: Any, client: Any, target: Target, workload: Workload, given: Mapping[str, Any]
) -> Client:
    w = workload
    wanted = [triton.InferRequestedOutput(w.output_name, **given)]

    def ask(index: int) -> Any:
        tensor = triton.InferInput(w.input_name, w.shape, w.datatype)
        tensor.set_data_from_numpy(w.inputs[index], **given)
        return client.infer(target.model, [tensor], outputs=wanted)

    return Client(ask, lambda result: result.as_numpy(w.output_name).ravel(), client.close)


def _kserve(target: Target, workload: Workload) -> Client:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, while it is imported
        from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
        from kserve.protocol.infer_type import RequestedOutput
    w, (host, port), loop = workload, target.tcp, asyncio.new_event_loop()
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    wanted = [RequestedOutput(w.output_name, {"binary_data": True})]

    def ask(index: int) -> Any:
        tensor = InferInput(w.input_name, w.shape, w.datatype)
        tensor.set_data_from_numpy(w.inputs[index], binary_data=True)
        request = InferRequest(target.model, [tensor], request_outputs=wanted)
        sent = client.infer(f"http://{host}:{port}", request, model_name=target.model)
        return loop.run_until_complete(sent)

    def close() -> None:
        loop.run_until_complete(client.close())
        loop.close()

    return Client(ask, lambda response: response.outputs[0].as_numpy().ravel(), close)


def _bare(_: Target, workload: Workload) -> Client:
    """No server at all: the interpreter in the client's own process."""
    from edgeq.tflite.runtime import Runner

    runner, w = Runner(workload.model.read_bytes()), workload

    def ask(index: int) -> Array:
        return runner.run({w.input_name: w.inputs[index]})[w.output_name]

    return Client(ask, lambda values: values.ravel())


KINDS: Mapping[str, Callable[[Target, Workload], Client]] = {
    "binary, TCP": _binary_tcp,
    "binary, Unix": _binary_unix,
    "JSON, TCP": _json,
    "shared memory, Unix": _shared,
    "gRPC raw": _grpc_raw,
    "tritonclient.http": _triton_http,
    "tritonclient.grpc": _triton_grpc,
    "kserve": _kserve,
    "JSON list": _lit(as_base64=False),
    "base64 in JSON": _lit(as_base64=True),
    "in process": _bare,
}


def target_json(target: Target) -> dict[str, Any]:
    unix = str(target.unix_socket) if target.unix_socket else None
    return {**asdict(target), "unix_socket": unix}


def target_of(told: Mapping[str, Any]) -> Target:
    unix = told["unix_socket"]
    return Target(**{**told, "unix_socket": Path(unix) if unix else None})
