"""The data plane: protocol skins -> the slots; answered requests go on to the capture."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy.typing as npt

from edgeq.daemon.capture import Capture
from edgeq.daemon.deployer import Deployer
from edgeq.daemon.deployment import UNLOADED, Deployment
from edgeq.daemon.uploads import OnDeployThread, Uploads
from edgeq.errors import NotFoundError
from edgeq.serve.data_plane import ModelState, ModelView
from edgeq.swap import Afterwards, Inference, LiveInfo, at_once

Array = npt.NDArray[Any]


class Plane:
    """What `serve.data_plane.DataPlane` asks for; reads deployments, changes none."""

    def __init__(
        self,
        deployer: Deployer,
        capture: Capture,
        capture_ratio: Callable[[], float],
        on_deploy_thread: OnDeployThread,
    ) -> None:
        self._deployer = deployer
        self._capture = capture
        self._capture_ratio = capture_ratio
        self._on_deploy_thread = on_deploy_thread
        self._uploads = Uploads(deployer, on_deploy_thread)
        self._views: dict[str, tuple[LiveInfo, ModelView]] = {}  # of what served last

    def models(self) -> list[ModelView]:
        """Return every model, served or not, and those of which no drop was taken yet."""
        served = [_view(deployment) for deployment in list(self._deployer.deployments.values())]
        refused = self._deployer.models.refused.items()
        return served + [_refused_view(name, reason) for name, reason in refused]

    def model(self, name: str, version: str | None) -> ModelView:
        """Return one model; NotFoundError without it or with another version."""
        view = self._view(self._deployer.models.find(name))
        if version is not None and version != view.version:
            live = f"version {view.version} serves" if view.version else "no version serves"
            raise NotFoundError(f"model {name!r} has no live version {version!r}; {live}")
        return view

    def _view(self, deployment: Deployment) -> ModelView:
        """Look at a model; 2 us less where what serves is what served at the last request."""
        live, known = deployment.slot.live, self._views.get(deployment.name)
        if known is not None and known[0] is live and known[1].reason == deployment.reason:
            return known[1]
        view = _view(deployment)
        if live is not None:
            self._views[deployment.name] = live, view
        return view

    def submit(
        self,
        name: str,
        version: str | None,
        inputs: Mapping[str, Array],
        timeout_s: float | None,
        priority: int = 0,
        afterwards: Afterwards = at_once,
    ) -> Future[Inference]:
        """Queue one inference, and offer its inputs to the sample store."""
        deployment = self._deployer.models.find(name)
        if version is not None:
            self.model(name, version)
        future = deployment.slot.submit(
            inputs, timeout_s=timeout_s, priority=priority, afterwards=afterwards
        )
        answered = functools.partial(self._answered, deployment, inputs)
        if future.done():
            afterwards(functools.partial(answered, future))
        else:
            future.add_done_callback(answered)
        return future

    def _answered(
        self, deployment: Deployment, inputs: Mapping[str, Array], future: Future[Inference]
    ) -> None:
        """Only what the engine answered is a sample: the rest may be malformed."""
        if future.cancelled() or future.exception() is not None:
            return
        if deployment.method != "as-is":  # nothing is ever calibrated on its samples
            answer = future.result()
            self._capture.offer(deployment, inputs, answer, self._capture_ratio())
        probation = deployment.probation
        if probation is not None and probation.shadow is not None:
            answer = future.result()
            probation.shadow.offer(inputs, answer.outputs, answer.version)

    def is_ready(self) -> bool:
        """True: the server starts to answer when what was committed has been restored.

        One model that cannot serve must not take the others out of a load balancer; each has a
        readiness of its own.
        """
        return True

    def load(
        self, name: str, *, config: str | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Serve the committed version anew, or a model that came with the request."""
        self._uploads.load(name, config, files or {})

    def unload(self, name: str, *, unload_dependents: bool = False) -> None:
        """Stop serving."""
        self._on_deploy_thread(lambda: self._deployer.unload(name))


def _view(deployment: Deployment) -> ModelView:
    live = deployment.slot.live
    state: ModelState = "READY"
    if live is None:
        is_over = deployment.state == "failed" or deployment.reason == UNLOADED
        state = "UNAVAILABLE" if is_over else "LOADING"
    return ModelView(
        name=deployment.name,
        version=live.version if live else "",
        versions=(live.version,) if live else (),
        state=state,
        reason=deployment.reason,
        engine=live.engine if live else "",
        inputs=live.inputs if live else (),
        outputs=live.outputs if live else (),
    )


def _refused_view(name: str, reason: str) -> ModelView:
    return ModelView(
        name=name,
        version="",
        versions=(),
        state="UNAVAILABLE",
        reason=reason,
        engine="",
        inputs=(),
        outputs=(),
    )
