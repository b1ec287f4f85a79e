"""What the protocol skins ask of the daemon: models to run, and commands for the administrator."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from edgeq.swap import Inference
from edgeq.tflite.runtime import Array, TensorSpec

ModelState = Literal["READY", "LOADING", "UNAVAILABLE"]


@dataclass(frozen=True)
class ModelView:
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
    ) -> Future[Inference]:
        """Queue one inference.

        Raises:
            NotFoundError: no such model or version.
            UnavailableError: nothing serves it now, or its queue is full.
        """

    def is_ready(self) -> bool:
        """True once the daemon takes traffic."""

    def load(self, name: str) -> None:
        """Serve the model's latest version; returns when it does."""

    def unload(self, name: str) -> None:
        """Stop serving the model."""


class Admin(Protocol):
    """The daemon's own commands; called from worker threads."""

    def status(self) -> dict[str, Any]:
        """Return what `GET /edgeq/status` shows."""

    def call(self, command: str, arguments: Mapping[str, Any], body: bytes) -> Any:
        """Run one command; returns what JSON can hold.

        Raises:
            NotFoundError: no such command, or nothing of the name it is about.
        """
