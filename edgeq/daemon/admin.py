"""Admin commands (`POST /edgeq/<command>`) -> the deploy thread, the stores and the registry."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from edgeq.bundle import REPORT
from edgeq.daemon.deployer import Deployer
from edgeq.daemon.deployment import Context, Deployment
from edgeq.daemon.erasing import erase_samples
from edgeq.daemon.jobs import build_key
from edgeq.daemon.starts import SAFE_MODE_REFUSAL
from edgeq.daemon.status import event_dict, status
from edgeq.errors import ConflictError, InvalidRequestError, NotFoundError, SampleError
from edgeq.samples.decode import decode_bytes
from edgeq.samples.naming import stratum_in_words
from edgeq.samples.sheet import USUAL, sheet_of_store
from edgeq.samples.store import is_held_out
from edgeq.serve.tensors import quoted

T = TypeVar("T")
VERSION_DIGITS = 18  # SQLite's integers have 63 bits
Arguments = Mapping[str, Any]


class AdminCommands:
    """What `serve.data_plane.Admin` asks for.

    Args:
        on_deploy_thread: runs a function there, waits, and returns its result or raises.
        reload: re-reads the configuration; returns what changed.
        rescan: makes the scanner report a model's drop again.
    """

    def __init__(
        self,
        context: Context,
        deployer: Deployer,
        on_deploy_thread: Callable[[Callable[[], Any]], Any],
        reload: Callable[[], Any],
        rescan: Callable[[str], None],
    ) -> None:
        self._context = context
        self._deployer = deployer
        self._on_deploy_thread = on_deploy_thread
        self._reload = reload
        self._rescan = rescan
        self._started = time.time()
        self._commands: dict[str, Callable[[Arguments, bytes], Any]] = {
            "history": self._history,
            "rollback": self._rollback,
            "pin": self._pin,
            "unpin": self._unpin,
            "recalibrate": self._recalibrate,
            "quarantine": self._quarantine,
            "samples": self._samples,
            "samples-add": self._samples_add,
            "resume": self._resume,
            "reload": lambda _arguments, _body: self._reload(),
        }

    def status(self) -> dict[str, Any]:
        """Return the JSON of `GET /edgeq/status`."""
        deployments = list(self._deployer.deployments.values())
        return status(self._context, deployments, self._started)

    def report(self, name: str, version: str) -> bytes:
        """Return a version's report; errors as `serve.data_plane.Admin.report`."""
        numbers = [each.version for each in self._context.registry.versions(name)]
        if version not in map(str, numbers):
            raise NotFoundError(
                f"model {name!r} has no version {version!r}; it has {numbers or 'none'}"
            )
        path = self._context.paths.bundle(name, int(version)) / REPORT
        try:
            return path.read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(
                f"version {version} of {name!r} has no report: it serves as it was dropped"
            ) from error

    def call(self, command: str, arguments: Arguments, body: bytes) -> Any:
        """Run a command; NotFoundError where there is none of that name."""
        function = self._commands.get(command)
        if function is None:
            known = ", ".join(sorted(self._commands))
            raise NotFoundError(f"command {quoted(command)} is unknown; there are: {known}")
        return function(arguments, body)

    def _find(self, arguments: Arguments) -> Deployment:
        return self._deployer.models.find(_text(arguments, "name"))

    def _history(self, arguments: Arguments, _body: bytes) -> Any:
        name, registry = _text(arguments, "name"), self._context.registry
        versions = registry.versions(name)
        if not versions:
            self._deployer.models.find(name)
        live = registry.live(name)
        return {
            "name": name,
            "live": str(live.version) if live else None,
            "pinned": registry.is_pinned(name),
            "versions": [asdict(version) for version in versions],
            "events": [event_dict(event) for event in registry.events(100, name)],
        }

    def _rollback(self, arguments: Arguments, _body: bytes) -> Any:
        deployment = self._find(arguments)
        to = _version_number(arguments.get("to"))
        version = self._on_deploy_thread(
            lambda: self._deployer.rollback(deployment.name, "asked for", to)
        )
        return {"name": deployment.name, "version": str(version.version), "engine": version.engine}

    def _pin(self, arguments: Arguments, _body: bytes) -> Any:
        deployment = self._find(arguments)
        self._on_deploy_thread(lambda: self._deployer.pin(deployment.name))
        return {"name": deployment.name, "pinned": True, "version": deployment.version}

    def _unpin(self, arguments: Arguments, _body: bytes) -> Any:
        deployment = self._find(arguments)
        self._on_deploy_thread(lambda: self._deployer.unpin(deployment.name))
        self._rescan(deployment.name)  # a drop that came meanwhile was passed over
        return {"name": deployment.name, "pinned": False, "version": deployment.version}

    def _recalibrate(self, arguments: Arguments, _body: bytes) -> Any:
        deployment = self._find(arguments)
        if reason := self._why_not_recalibrate(deployment):
            raise ConflictError(f"model {deployment.name!r} cannot be recalibrated: {reason}")
        self._context.builds_again.forget(deployment.name)  # a person need not wait
        self._on_deploy_thread(lambda: self._deployer.recalibrate(deployment, "request"))
        return {"name": deployment.name, "samples": len(deployment.store), "state": "building"}

    def _resume(self, _arguments: Arguments, _body: bytes) -> Any:
        was_safe = self._context.starts.safe_mode is not None
        leave = self._deployer.failures.leave_safe_mode
        self._on_deploy_thread(lambda: leave(is_asked_for=True))
        self._on_deploy_thread(self._deployer.resume_builds)
        return {"resumed": was_safe}

    def _why_not_recalibrate(self, deployment: Deployment) -> str:
        if self._context.starts.safe_mode is not None:
            return SAFE_MODE_REFUSAL
        if not deployment.version:
            return "nothing serves"
        if deployment.method == "as-is":
            return "it arrived as INT8"
        if self._context.registry.is_pinned(deployment.name):
            return "it is pinned"
        return ""

    def _quarantine(self, arguments: Arguments, _body: bytes) -> Any:
        action, quarantine = arguments.get("action", "list"), self._context.quarantine
        if action == "list":
            return {"entries": [asdict(entry) for entry in quarantine.entries()]}
        entry = quarantine.get(_text(arguments, "id"))
        if action == "show":
            return asdict(entry)
        if action not in ("retry", "rm"):
            raise InvalidRequestError(
                f"action {quoted(action)} is unknown; there are list show retry rm"
            )
        quarantine.remove(entry.id)
        self._deployer.models.refused.pop(entry.name, None)
        if action == "retry":
            for key in (entry.sha256, build_key(entry.sha256)):
                self._context.registry.forget_drop(entry.name, key)
            self._rescan(entry.name)
        return {"id": entry.id, "action": action}

    def _samples(self, arguments: Arguments, _body: bytes) -> Any:
        deployment, action = self._find(arguments), arguments.get("action", "list")
        if action == "prune":
            return {"name": deployment.name, "removed": deployment.store.prune()}
        if action == "erase":
            return self._on_deploy_thread(lambda: erase_samples(self._context, deployment))
        if action == "show":
            return self._sheet(deployment, arguments.get("limit", USUAL))
        if action != "list":
            raise InvalidRequestError(
                f"action {quoted(action)} is unknown; there are list prune erase show"
            )
        ratio = self._context.config.samples.held_out_ratio
        rows = [
            {
                **asdict(row),
                "stratum": stratum_in_words(row.stratum) if row.origin == "captured" else "",
                "held_out": is_held_out(row.id, ratio),
            }
            for row in deployment.store.rows()
        ]
        strata = [
            {**asdict(stratum), "name": stratum_in_words(stratum.name)}
            for stratum in deployment.store.strata()
        ]
        size = deployment.store.bytes
        return {"name": deployment.name, "bytes": size, "strata": strata, "samples": rows}

    def _sheet(self, deployment: Deployment, limit: Any) -> Any:
        if type(limit) is not int or limit < 1:
            raise InvalidRequestError(f"argument 'limit' is {quoted(limit)}; 1 or more is needed")
        preprocessing = deployment.sidecar.preprocessing.options
        ratio = self._context.config.samples.held_out_ratio
        sheet = sheet_of_store(deployment.store, preprocessing, ratio, limit)
        return {"name": deployment.name, **sheet}

    def _samples_add(self, arguments: Arguments, body: bytes) -> Any:
        deployment = self._find(arguments)
        live = deployment.slot.live
        if live is None:
            raise ConflictError(f"model {deployment.name!r} serves nothing to take samples for")
        preprocessing = deployment.sidecar.preprocessing.options
        try:
            samples = decode_bytes(body, _text(arguments, "filename"), live.inputs, preprocessing)
            added = sum(deployment.store.add(sample.inputs) for sample in samples)
        except SampleError as error:
            raise InvalidRequestError(error.message, hint=error.hint) from error
        self._on_deploy_thread(lambda: self._deployer.consider_build(deployment, "samples"))
        return {"name": deployment.name, "added": added, "stored": len(deployment.store)}


def _version_number(to: object) -> int | None:
    """Return the number of a version, also where it came as text; None where none was named."""
    text = str(to)
    if to is None or (text.isascii() and text.isdigit() and len(text) <= VERSION_DIGITS):
        return None if to is None else int(text)
    raise InvalidRequestError(f"version {quoted(to)} is not a number; see `edgeq history`")


def _text(arguments: Arguments, key: str) -> str:
    value = arguments.get(key)
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f"argument {key!r} is {quoted(value)}; a text is needed")
    return value
