"""Triton's load calls -> the deployer: a model in the request takes the way that a drop takes.

It is admitted from the staging folder, and served as it came; the INT8 build follows by itself.
Once it serves it is written to the drop folder as NAME.tflite, so that the folder shows what is
served; the scanner finds bytes there that were tried before. What is refused leaves no file there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from edgeq import files
from edgeq.daemon.deployer import Deployer
from edgeq.daemon.drops import Received, receive
from edgeq.daemon.starts import SAFE_MODE_REFUSAL
from edgeq.errors import (
    ConflictError,
    InvalidRequestError,
    TooLargeError,
    UnavailableError,
)
from edgeq.intake.names import MODEL_SUFFIX, SIDECAR_SUFFIX, SIGNATURE_SUFFIX, is_model_name
from edgeq.intake.watch import Candidate, Fingerprint, Stamp

logger = logging.getLogger(__name__)

OnDeployThread = Callable[[Callable[[], Any]], Any]  # runs it there, waits, returns or raises

# What a configuration may say: what `config` answers for the model, which asks for nothing else.
CONFIG_VALUES: Mapping[str, tuple[Any, ...]] = {
    "platform": ("", "tensorflow_lite", "tflite"),
    "backend": ("", "edgeq", "tflite"),
    "max_batch_size": (0,),
    "version_policy": ({"latest": {"num_versions": 1}}, {"latest": {}}),
}
DESCRIBED = ("input", "output", "instance_group", "parameters")  # said by the model, or by edgeq


class Uploads:
    """Called from any worker thread; what changes a model runs on the deploy thread."""

    def __init__(self, deployer: Deployer, on_deploy_thread: OnDeployThread) -> None:
        self._deployer = deployer
        self._context = deployer.context
        self._on_deploy_thread = on_deploy_thread
        self._turn = threading.Lock()  # one probe's child at a time, whoever sends

    def load(self, name: str, config: str | None, contents: Mapping[str, bytes]) -> None:
        """Serve a model; errors as `serve.data_plane.DataPlane.load`."""
        _check_name(name)
        _check_config(name, config)
        if not contents:
            self._on_deploy_thread(lambda: self._deployer.load(name))
            return
        content, signature = _model_of(contents)
        limit = self._context.config.security.max_model_bytes
        if len(content) > limit:
            raise TooLargeError(f"the model has {len(content)} bytes; at most {limit} are taken")
        self._refuse_pinned(name)
        if self._context.starts.safe_mode is not None:
            raise UnavailableError(f"the model is not taken: {SAFE_MODE_REFUSAL}")
        with self._turn, self._staged(name, content, signature) as candidate:
            received = receive(self._context, candidate, is_asked_for=True)
            try:
                self._on_deploy_thread(lambda: self._serve(candidate, received, content, signature))
            finally:
                if received.drop is not None:
                    received.drop.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _staged(self, name: str, content: bytes, signature: bytes | None) -> Iterator[Candidate]:
        """Yield the model as the scanner would report it, with the sidecar of the drop folder."""
        path = self._context.paths.staging / f"{name}-{os.urandom(6).hex()}-sent{MODEL_SUFFIX}"
        signed = path.with_name(path.name + SIGNATURE_SUFFIX) if signature is not None else None
        sidecar = self._context.config.models_dir / f"{name}{SIDECAR_SUFFIX}"
        try:
            files.make_directory(path.parent)
            files.write_atomic(path, content)
            if signed is not None and signature is not None:
                files.write_atomic(signed, signature)
            fingerprint = Fingerprint(path, Stamp.of(path.stat()))
        except OSError as error:
            raise UnavailableError(
                f"the model cannot be written: {error}", hint="See that the state folder has room."
            ) from error
        try:
            yield Candidate(name, path, sidecar if sidecar.is_file() else None, signed, fingerprint)
        finally:
            for written in filter(None, (path, signed)):
                written.unlink(missing_ok=True)

    def _refuse_pinned(self, name: str) -> None:
        if self._context.registry.is_pinned(name):
            raise ConflictError(
                f"model {name!r} is pinned", hint=f"Run `edgeq unpin {name}` first."
            )

    # ---- on the deploy thread

    def _serve(
        self, candidate: Candidate, received: Received, content: bytes, signature: bytes | None
    ) -> None:
        self._refuse_pinned(candidate.name)
        if received.unchanged:
            raise InvalidRequestError(self._said_before(candidate.name, received.unchanged))
        deployment, received = self._deployer.welcome(candidate, received)
        if received.is_to_be_tried_again and received.refusal is not None:
            raise UnavailableError(received.refusal.message, hint=received.refusal.hint)
        if received.refusal is not None:
            raise InvalidRequestError(received.refusal.message, hint=received.refusal.hint)
        if received.drop is None or deployment is None:
            raise UnavailableError(f"the model {candidate.name!r} changed while it was read")
        if deployment.slot.live is not None and deployment.model_sha256 == received.drop.sha256:
            self._deployer.load(candidate.name)
        elif error := self._deployer.serve_now(deployment, received.drop):
            if isinstance(error, UnavailableError):  # the box's fault: the same may do later
                raise error
            raise InvalidRequestError(error.message, hint=error.hint)
        self._show(candidate.name, content, signature)

    def _said_before(self, name: str, sha256: str) -> str:
        entries = self._context.quarantine.entries()
        said = [e.error for e in entries if e.name == name and e.sha256 == sha256]
        return said[0] if said else f"the same bytes were refused before for {name!r}"

    def _show(self, name: str, content: bytes, signature: bytes | None) -> None:
        path = self._context.config.models_dir / f"{name}{MODEL_SUFFIX}"
        try:
            if signature is not None:
                files.write_atomic(
                    path.with_name(path.name + SIGNATURE_SUFFIX), signature, mode=0o644
                )
            if not path.is_file() or files.sha256_file(path) != files.sha256_bytes(content):
                files.write_atomic(path, content, mode=0o644)
        except OSError as error:  # it serves all the same: a drop folder may be read-only
            fields = {"model": name, "reason": str(error)}
            logger.warning("not shown in the drop folder", extra=fields)


def _check_name(name: str) -> None:
    if not is_model_name(name):
        raise InvalidRequestError(
            f"the name {name!r:.140} cannot be a model's; it has 1 to 128 of A-Z a-z 0-9 . _ - "
            "and does not start with a dot"
        )


def _check_config(name: str, config: str | None) -> None:
    """Refuse a configuration that asks for anything the model is not."""
    if config is None:
        return
    try:
        said = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the model configuration is not JSON: {error}") from error
    if not isinstance(said, dict):
        raise InvalidRequestError(f"the model configuration is {said!r:.60}; an object is expected")
    for key, value in said.items():
        allowed = (name, "") if key == "name" else CONFIG_VALUES.get(key)
        if allowed is not None and value not in allowed:
            raise InvalidRequestError(
                f"the model configuration has {key} {value!r:.60}; it may be {allowed[0]!r}"
                if key == "name"
                else f"the model configuration has {key} {value!r:.60}; "
                f"expected {allowed[-1]!r}, or nothing"
            )
        if allowed is None and key not in DESCRIBED:
            known = ", ".join(sorted(("name", *CONFIG_VALUES, *DESCRIBED)))
            raise InvalidRequestError(
                f"the model configuration has the key {key!r:.60}; it may have: {known}",
                hint="What a model's owner can say goes into its sidecar, NAME.yaml.",
            )


def _model_of(contents: Mapping[str, bytes]) -> tuple[bytes, bytes | None]:
    """Return the model, and its signature where there is one."""
    parts = {PurePosixPath(name.removeprefix("file:")).suffix: name for name in contents}
    others = parts.keys() - {MODEL_SUFFIX, SIGNATURE_SUFFIX}
    if MODEL_SUFFIX not in parts or others or len(parts) != len(contents):
        names = sorted(name.removeprefix("file:") for name in contents)
        raise InvalidRequestError(
            f"the load has the files {names!r:.200}; one {MODEL_SUFFIX} is expected, "
            f"and its {SIGNATURE_SUFFIX} where drops must be signed",
            hint="Send it as 'file:1/model.tflite'.",
        )
    signature = parts.get(SIGNATURE_SUFFIX)
    return contents[parts[MODEL_SUFFIX]], contents[signature] if signature else None
