"""What the protocol skins ask of the daemon: models to run, and commands for the administrator."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Literal, NamedTuple, Protocol

from edgeq.swap import Afterwards, Inference
from edgeq.tflite.runtime import Array, TensorSpec

ModelState = Literal["READY", "LOADING", "UNAVAILABLE"]


class ModelView(NamedTuple):
    """One model as clients see it; `version` is the live one, "" where none is."""

    name: str
    version: str
    versions: tuple[str, ...]
    state: ModelState
    reason: str
    engine: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class DataPlane(Protocol):
    """The models; called from the event loop, so only `load` and `unload` may take their time."""

    def models(self) -> list[ModelView]:
        """Return every model, served or not."""

    def model(self, name: str, version: str | None) -> ModelView:
        """Return one model; None means the live version.

        Raises:
            NotFoundError: no such model or version.
        """

    def submit(
        self,
        name: str,
        version: str | None,
        inputs: Mapping[str, Array],
        timeout_s: float | None,
        priority: int,
        afterwards: Afterwards,
    ) -> Future[Inference]:
        """Queue one inference; `priority` orders those that wait, as `Slot.submit` says.

        What was done on the caller's thread is counted, and kept as a sample, `afterwards`.

        Raises:
            NotFoundError: no such model or version.
            UnavailableError: nothing serves it now, or its queue is full.
        """

    def is_ready(self) -> bool:
        """True once the daemon takes traffic."""

    def load(
        self, name: str, *, config: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Serve a model; returns when it does. What fails leaves what serves.

        Args:
            name: the model's.
            config: Triton's model configuration, JSON; it may not ask for anything else.
            files: path -> content, of the one .tflite that is to be served from now on, e.g.
                '1/model.tflite'. None: the committed version, loaded anew.

        Raises:
            NotFoundError: no such model, and no file.
            InvalidRequestError: the model was refused; the message is the quarantine's.
            TooLargeError: it is over security.max_model_bytes.
            ConflictError: it is pinned.
        """

    def unload(self, name: str, *, unload_dependents: bool = False) -> None:
        """Stop serving the model; none depends on another."""


class Admin(Protocol):
    """The daemon's own commands; called from worker threads."""

    def status(self) -> dict[str, Any]:
        """Return what `GET /edgeq/status` shows."""

    def report(self, name: str, version: str) -> bytes:
        """Return the HTML of a version's report.

        Raises:
            NotFoundError: no such model or version, or it was not built.
        """

    def call(self, command: str, arguments: Mapping[str, Any], body: bytes) -> Any:
        """Run one command; returns what JSON can hold.

        Raises:
            NotFoundError: no such command, or nothing of the name it is about.
        """
