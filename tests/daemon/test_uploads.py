"""A model that comes with a load call takes the way of a drop, and is shown in the drop folder."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.daemon import publisher
from edgeq.errors import (
    ConflictError,
    EngineError,
    InvalidRequestError,
    NotFoundError,
    SwapError,
    TooLargeError,
    UnavailableError,
)
from tests.daemon.conftest import House, fill, install, states

CONFIG = {
    "name": "digits",
    "platform": "tensorflow_lite",
    "backend": "edgeq",
    "max_batch_size": 0,
    "version_policy": {"latest": {"num_versions": 1}},
    "input": [],
    "output": [],
    "instance_group": [],
    "parameters": {},
}
Send = Callable[..., None]


@pytest.fixture
def v1(digits: Path) -> bytes:
    return (digits / "digits.tflite").read_bytes()


@pytest.fixture
def v2(digits: Path) -> bytes:
    return (digits / "digits_v2.tflite").read_bytes()


@pytest.fixture
def send(house: House) -> Send:
    def load(content: bytes, name: str = "digits", config: str | None = None) -> None:
        house.plane.load(name, config=config, files={"1/model.tflite": content})

    return load


def shown(house: House, name: str = "digits") -> bytes:
    return (house.context.config.models_dir / f"{name}.tflite").read_bytes()


def test_a_model_in_the_request_serves_when_the_call_returns(house, send, v1, images):
    send(v1, config=json.dumps(CONFIG))
    assert house.plane.model("digits", None).state == "READY"
    house.ask(images[:3])
    assert shown(house) == v1
    assert not list(house.context.paths.staging.iterdir())


def test_the_scanner_and_a_restart_find_nothing_new_in_it(house, send, v1):
    send(v1)
    for candidate in house.scanner.scan().settled:
        house.deployer.take(candidate)
    house.deployer.close()
    house.deployer.deployments.clear()
    house.deployer.restore()
    house.scanner.forget("digits")
    for candidate in house.scanner.scan().settled:
        house.deployer.take(candidate)
    assert states(house) == ["committed"]


def test_a_new_model_takes_over_from_a_drop_and_is_watched(house, send, digits, v2):
    deployment = house.drop(digits / "digits.tflite")
    send(v2)
    assert (deployment.version, deployment.state) == ("2", "probation")
    assert shown(house) == v2
    send((digits / "digits.tflite").read_bytes())  # as before: accepted once, and asked for now
    assert deployment.version == "3"


def test_where_an_int8_engine_serves_the_model_sent_serves_at_once_and_is_built_after(
    house, send, digits, built, images, v2
):
    deployment = house.drop(digits / "digits.tflite")
    install(house, built)
    fill(house, images)
    send(v2)
    assert (deployment.version, deployment.engine) == ("3", "float")
    assert house.builder.is_pending("digits")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04 and more", "a zip archive"),
        (b"", "empty"),
        (b"\0\0\0\0TFL3 and nothing else", "."),
    ],
)
def test_a_bad_model_is_refused_with_the_quarantine_s_reason(house, send, v1, content, said):
    send(v1)
    for _ in range(2):  # the second time from memory
        with pytest.raises(InvalidRequestError, match=said) as refused:
            send(content)
    assert refused.value.message == house.context.quarantine.entries()[0].error
    assert shown(house) == v1
    assert house.plane.model("digits", None).version == "1"


def test_a_refused_model_without_a_version_is_in_the_index_with_its_reason(house, send):
    with pytest.raises(InvalidRequestError):
        send(b"PK\x03\x04 and more", "zipped")
    (view,) = house.plane.models()
    assert (view.name, view.state, view.version) == ("zipped", "UNAVAILABLE", "")
    assert "zip archive" in view.reason
    with pytest.raises(NotFoundError, match="zip archive"):
        house.plane.load("zipped")
    house.deployer.models.refused.clear()
    house.deployer.restore()
    assert [view.name for view in house.plane.models()] == ["zipped"]


def test_another_interface_is_refused_and_what_serves_goes_on(house, send, v1, tiny_model_bytes):
    send(v1)
    with pytest.raises(InvalidRequestError, match="clients of the version that serves"):
        send(tiny_model_bytes)
    assert house.plane.model("digits", None).version == "1"
    house.sidecar("interface: replace\n")
    send(tiny_model_bytes)
    assert house.plane.model("digits", None).version == "2"


def test_a_model_that_does_not_prove_itself_is_refused_and_kept_in_quarantine(
    house, send, v1, v2, monkeypatch
):
    send(v1)

    def refuse(bundle: Any, threads: int) -> Any:
        raise EngineError("the device is gone")

    monkeypatch.setattr(publisher, "load_engine", refuse)
    with pytest.raises(InvalidRequestError, match="the device is gone"):
        send(v2)
    assert house.context.quarantine.entries()[0].stage == "publish"
    assert (house.plane.model("digits", None).version, shown(house)) == ("1", v1)


def test_the_same_bytes_as_the_live_version_s_are_loaded_anew(house, send, digits, built, v1):
    send(v1)
    deployment = install(house, built)
    before = deployment.slot.live
    send(v1)
    assert (deployment.version, deployment.engine) == ("2", "cpu-int8")
    assert deployment.slot.live.since > before.since


def test_a_load_without_a_file_loads_the_same_version_beside_itself(house, digits, images):
    house.drop(digits / "digits.tflite")
    deployment = house.deployer.deployments["digits"]
    failures: list[Exception] = []
    is_over = threading.Event()

    def traffic() -> None:
        while not is_over.is_set():
            try:
                house.ask(images[:5])
            except Exception as error:  # noqa: BLE001 - whatever it is
                failures.append(error)

    clients = [threading.Thread(target=traffic) for _ in range(2)]
    for client in clients:
        client.start()
    for _ in range(5):
        house.plane.load("digits")
    is_over.set()
    for client in clients:
        client.join(10)
    assert not failures
    assert (deployment.version, states(house)) == ("1", ["committed"])


def test_a_reload_that_fails_leaves_what_serves(house, digits, images):
    deployment = house.drop(digits / "digits.tflite")
    path = house.context.paths.bundle("digits", 1) / "golden.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Exception, match="golden"):
        house.plane.load("digits")
    house.ask(images[:2])
    assert deployment.state == "serving"


def test_unload_stops_serving_and_load_begins_again(house, digits):
    house.drop(digits / "digits.tflite")
    house.sidecar("task: classification\n")
    house.plane.unload("digits", unload_dependents=True)
    view = house.plane.model("digits", None)
    assert (view.state, view.reason) == ("UNAVAILABLE", "unloaded")
    house.plane.load("digits")
    assert house.plane.model("digits", None).state == "READY"
    assert house.deployer.deployments["digits"].sidecar.task == "classification"
    for version in house.context.registry.versions("digits"):
        (house.context.paths.bundle("digits", version.version) / "manifest.json").unlink()
    house.plane.unload("digits")
    with pytest.raises(SwapError):
        house.plane.load("digits")


@pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "", "x" * 129, "a\0b", "ü"])
def test_a_name_that_is_none_is_refused(house, send, v1, name):
    with pytest.raises(InvalidRequestError, match="cannot be a model's"):
        send(v1, name)
    assert not list(house.context.config.models_dir.iterdir())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "an object is expected"),
        ('{"name": "other"}', "has name 'other'"),
        ('{"platform": "onnxruntime_onnx"}', "has platform 'onnxruntime_onnx'"),
        ('{"max_batch_size": 8}', "has max_batch_size 8"),
        ('{"model_warmup": []}', "has the key 'model_warmup'"),
    ],
)
def test_a_configuration_that_asks_for_more_is_refused(house, send, v1, config, said):
    with pytest.raises(InvalidRequestError, match=said.replace("(", r"\(")):
        send(v1, config=config)
    assert not house.deployer.deployments


@pytest.mark.parametrize(
    "files",
    [
        {"1/model.onnx": b"x"},
        {"1/model.tflite": b"x", "2/model.tflite": b"y"},
        {"file:labels.txt": b"x"},
    ],
)
def test_anything_but_one_model_is_refused(house, files):
    with pytest.raises(InvalidRequestError, match=r"one \.tflite is expected"):
        house.plane.load("digits", files=files)


def test_a_model_over_the_limit_is_refused_before_it_is_written(house, send, v1):
    security = house.context.config.security.model_copy(update={"max_model_bytes": 100})
    house.context.config = house.context.config.model_copy(update={"security": security})
    with pytest.raises(TooLargeError, match="at most 100"):
        send(v1)


def test_a_pinned_model_takes_no_other(house, send, digits, v2):
    house.drop(digits / "digits.tflite")
    house.deployer.pin("digits")
    with pytest.raises(ConflictError, match="pinned"):
        send(v2)
    assert house.deployer.deployments["digits"].version == "1"


def test_an_unknown_model_without_a_file_is_not_found(house):
    with pytest.raises(NotFoundError, match="'nobody' is unknown"):
        house.plane.load("nobody")
    with pytest.raises(NotFoundError):
        house.plane.unload("nobody")


def test_a_full_disk_is_no_fault_of_the_model(house, send, v1, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edgeq.daemon.uploads.files.write_atomic", refuse)
    with pytest.raises(UnavailableError, match="No space left"):
        send(v1)
    monkeypatch.undo()
    send(v1)


def test_a_folder_that_cannot_be_written_does_not_keep_a_model_from_serving(
    house, send, v1, caplog
):
    folder = house.context.config.models_dir
    folder.rmdir()
    folder.write_text("no folder")
    send(v1)
    assert house.plane.model("digits", None).state == "READY"
    assert "not shown in the drop folder" in caplog.messages


def test_loads_of_one_name_take_turns(house, v1, v2):
    turn = threading.Lock()  # the deploy thread's

    def on_deploy_thread(function: Callable[[], Any]) -> Any:
        with turn:
            return function()

    house.plane._uploads._on_deploy_thread = on_deploy_thread
    errors: list[Exception] = []

    def load(content: bytes) -> None:
        try:
            house.plane.load("digits", files={"model.tflite": content})
        except Exception as error:  # noqa: BLE001 - whatever it is
            errors.append(error)

    threads = [threading.Thread(target=load, args=(content,)) for content in (v1, v2, v1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    live = house.context.registry.live("digits")
    served = (house.context.paths.bundle("digits", live.version) / "float.tflite").read_bytes()
    assert shown(house) == served
