"""Everything that reads bytes from outside: its valid inputs, and the errors it may raise."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from PIL import Image

from edgeq.bundle import Golden, Manifest
from edgeq.calibrate.archive import histograms_from_npz, histograms_to_npz
from edgeq.calibrate.histogram import Histogram
from edgeq.calibrate.table import CalibrationTable, read_tensorrt_cache, tensorrt_cache
from edgeq.config import load, read_sidecar, read_web_config
from edgeq.errors import EdgeqError
from edgeq.intake import answer
from edgeq.intake.content import HEAD_BYTES, recognize
from edgeq.intake.signature import PublicKey, verify
from edgeq.samples import npz
from edgeq.samples.decode import decode_bytes
from edgeq.serve.grpc.messages import Messages
from edgeq.serve.grpc.request_message import read_infer
from edgeq.serve.http.messages import Request
from edgeq.serve.http.regions import RegionRoutes
from edgeq.serve.http.request_body import parse_infer
from edgeq.serve.rights import Peer
from edgeq.serve.shared_memory import SharedMemory
from edgeq.tflite.model import Model
from edgeq.tflite.runtime import TensorSpec
from edgeq.tflite.structure import check_structure
from tools.fuzzing.wire import feed_connection

ROOT = Path(__file__).resolve().parents[2]
SPECS = (
    TensorSpec("image", (1, 4, 4, 3), np.dtype(np.uint8)),
    TensorSpec("scale", (1,), np.dtype(np.float32)),
)
IMAGE = (TensorSpec("image", (1, 16, 16, 3), np.dtype(np.float32)),)
OUTPUTS = (TensorSpec("scores", (1, 10), np.dtype(np.float32)),)


@dataclass(frozen=True)
class Target:
    """One reader; `feed` may raise `errors`, anything else is a fault."""

    name: str
    corpus: tuple[bytes, ...]
    feed: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = (EdgeqError,)
    share: int = 10  # of the inputs; YAML takes 3 ms for one


def make_targets(folder: Path) -> list[Target]:
    """Return all of them; what is read from a file is written to `folder` first."""
    return [
        _model(), _content(), _answer(), *_files(folder), _http(), _infer_json(), _infer_grpc(),
        _region(), *_samples(), *_tables(), *_bundles(), _signature(folder),
    ]  # fmt: skip


def _model() -> Target:
    def feed(content: bytes) -> None:
        check_structure(Model.from_bytes(content))

    models = [(ROOT / "tests" / "data" / name).read_bytes() for name in ("digits.tflite",)]
    return Target("model", tuple(models), feed)


def _answer() -> Target:
    """What a child that was broken into may write in place of what it found."""

    def feed(content: bytes) -> None:
        found = answer.parse(content)
        if answer.refusal(found) is None:
            answer.read(found.get("ok"))

    tensor = {"name": "image", "shape": [1, -1, 8, 3], "dtype": "<f4"}
    found = {
        "inputs": [tensor], "outputs": [{**tensor, "name": "mask"}], "ops": {"CONV_2D": 3},
        "quantized": False, "finite": True, "memory_bytes": 4096, "load_s": 0.5, "run_s": 0.5,
        "sandbox": [{"name": "seccomp", "missing": "", "version": 0}],
    }  # fmt: skip
    reason = {"stage": "load", "message": "it needs FlexErf", "hint": "Convert it again."}
    corpus = (json.dumps({"ok": found}).encode(), json.dumps({"error": reason}).encode())
    return Target("answer", corpus, feed, errors=(ValueError,))


def _content() -> Target:
    corpus = (b"\x1c\0\0\0TFL3" + bytes(60), b"PK\3\4" + bytes(60), b"version https://git-lfs\n")
    return Target("content", corpus, lambda content: recognize(content[:HEAD_BYTES], len(content)))


def _files(folder: Path) -> list[Target]:
    path = folder / "file.yaml"

    def reading(read: Callable[[Path], object]) -> Callable[[bytes], None]:
        def feed(content: bytes) -> None:
            path.write_bytes(content)
            read(path)

        return feed

    configuration = (ROOT / "configs" / "edgeq.yaml").read_bytes()
    sidecar = (
        b"task: classification\nmethod: entropy\nsha256: "
        + b"ab" * 32
        + b"\npolicy: drop-then-load\n"
        b"gate: {agreement: 0.97}\nprobation: {max_latency_ratio: 3}\n"
        b"preprocessing: {resize: bilinear, crop: center, mean: [1, 2, 3], std: [1.5]}\n"
    )
    web = (
        b"tls_server_config: {cert_file: a.pem, key_file: b.pem, min_version: TLS12}\n"
        b"http_server_config: {headers: {X-Frame-Options: deny}}\n"
        b"rate_limit: {interval: 1s, burst: 5}\n"
    )
    return [
        Target("configuration", (configuration, b"server: {http_port: 1}\n"),
               reading(lambda file: load(file, {})), share=1),
        Target("sidecar", (sidecar, b"{}", b""), reading(read_sidecar), share=1),
        Target("web_config", (web,), reading(read_web_config), share=1),
    ]  # fmt: skip


def _http() -> Target:
    body = b'{"inputs":[]}'
    posted = (
        b"POST /v2/models/face/infer?a=b HTTP/1.1\r\nHost: box\r\nContent-Length: 13\r\n\r\n" + body
    )
    chunked = (
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        b"5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"
    )
    got = b"GET http://box/v2/health/ready HTTP/1.1\r\nHost: box\r\nConnection: close\r\n\r\n"
    both = b"POST /x HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"
    old = b"HEAD / HTTP/1.0\r\nAccept-Encoding: gzip;q=0.5, *\r\n\r\n"
    upgrade = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    corpus = (posted, chunked, got + posted, both, old, upgrade)
    return Target("http", corpus, feed_connection, errors=())


def _infer_json() -> Target:
    values = {"name": "scale", "shape": [1], "datatype": "FP32", "data": [0.5]}
    raw = {"name": "image", "shape": [1, 4, 4, 3], "datatype": "UINT8",
           "parameters": {"binary_data_size": 48}}  # fmt: skip
    region = {"name": "image", "shape": [1, 4, 4, 3], "datatype": "UINT8",
              "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 48,
                             "shared_memory_offset": 0}}  # fmt: skip
    wanted = [{"name": "scores", "parameters": {"binary_data": True, "classification": 3}}]
    corpus = []
    for inputs, tail in (([raw, values], bytes(48)), ([region, values], b"")):
        head = json.dumps({"id": "7", "inputs": inputs, "outputs": wanted,
                           "parameters": {"priority": 1, "timeout": 1000}}).encode()  # fmt: skip
        corpus.append(len(head).to_bytes(2, "little") + head + tail)

    def feed(content: bytes) -> None:
        length = int.from_bytes(content[:2], "little")
        header = None if length == 0xFFFF else str(length)
        parse_infer(content[2:], header, SPECS, OUTPUTS, lambda place: memoryview(bytes(48)))

    return Target("infer_json", tuple(corpus), feed)


def _infer_grpc() -> Target:
    request = Messages()["ModelInferRequest"]
    raw = request(model_name="face", id="7", raw_input_contents=[bytes(48), bytes(4)])
    typed = request(model_name="face")
    for message in (raw, typed):
        for spec in SPECS:
            datatype = "UINT8" if spec.name == "image" else "FP32"
            message.inputs.add(name=spec.name, datatype=datatype, shape=spec.shape)
        message.outputs.add(name="scores").parameters["classification"].int64_param = 2
        message.parameters["timeout"].int64_param = 10
    typed.inputs[0].contents.uint_contents.extend([0] * 48)
    typed.inputs[1].contents.fp32_contents.append(0.5)

    def feed(content: bytes) -> None:
        read_infer(request.FromString(content), SPECS, OUTPUTS, lambda _: memoryview(b""), 1.0)

    corpus = (raw.SerializeToString(), typed.SerializeToString())
    return Target("infer_grpc", corpus, feed, errors=(EdgeqError, DecodeError))


def _region() -> Target:
    regions = SharedMemory()
    routes = RegionRoutes(regions)

    def feed(content: bytes) -> None:
        request = Request("POST", "/", "", {}, content, Peer(True, False), 1 << 20)
        request.parameters = {"region": content[-8:].decode("latin-1")}
        routes.register(request)
        regions.unregister_all()

    corpus = (b'{"key": "/edgeq-fuzz", "offset": 0, "byte_size": 64}', b'{"key": "../x"}')
    return Target("region", corpus, feed)


def _samples() -> list[Target]:
    def reading(name: str) -> Callable[[bytes], None]:
        def feed(content: bytes) -> None:
            for number, _ in enumerate(decode_bytes(content, name, IMAGE)):
                if number > 8:
                    break

        return feed

    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    stack = np.zeros((2, 16, 16, 3), np.float32)
    return [
        Target("npz", (npz.encode({"image": stack}), _saved(np.savez, image=stack)),
               reading("a.npz")),
        Target("npy", (_saved(np.save, stack), _saved(np.save, stack[:1].astype("<f8"))),
               reading("a.npy")),
        Target("png", (_picture(pixels, "PNG"), _picture(pixels[..., 0], "PNG")), reading("a.png")),
        Target("jpeg", (_picture(pixels, "JPEG"),), reading("a.jpg")),
    ]  # fmt: skip


def _saved(save: Callable[..., None], *arrays: object, **named: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


def _picture(pixels: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def _tables() -> list[Target]:
    histogram = Histogram()
    histogram.add(np.linspace(-1, 3, 500, dtype=np.float32))
    histograms = {"relu": histogram, "scores": histogram}
    table = CalibrationTable.from_histograms("ab" * 32, "entropy", 9, histograms)
    cache = tensorrt_cache(table).encode()
    return [
        Target("table", (table.to_json(),), CalibrationTable.from_json),
        Target("cache", (cache,), lambda text: read_tensorrt_cache(text.decode("latin-1"))),
        Target("histograms", (histograms_to_npz(histograms),), histograms_from_npz),
    ]


def _bundles() -> list[Target]:
    manifest = Manifest(
        name="face", engine="cpu-int8", backend="cpu", method="auto", model_sha256="ab" * 32,
        samples=9, runtime="litert", edgeq="0.1.0",
    )  # fmt: skip
    run = {"image": np.zeros((1, 4), np.float32)}
    golden = Golden((run,), (run,))
    return [
        Target("manifest", (manifest.to_json(),), Manifest.from_json),
        Target("golden", (golden.to_npz(),), Golden.from_npz),
    ]


def _signature(folder: Path) -> Target:
    model, signature = folder / "model", folder / "signature"
    lines: Sequence[bytes] = (
        b"untrusted comment: a",
        base64.b64encode(b"ED" + bytes(8 + 64)),
        b"trusted comment: timestamp:1\tfile:face.tflite",
        base64.b64encode(bytes(64)),
    )
    key = PublicKey(b"\0" * 8, hashlib.sha256(b"key").digest())

    def feed(content: bytes) -> None:
        model.write_bytes(b"the model")
        signature.write_bytes(content)
        verify("face", model, signature, (key,))

    return Target("signature", (b"\n".join(lines) + b"\n",), feed)
