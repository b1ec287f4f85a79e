"""Bundles -> live versions: install, publish, commit, restore after a start, roll back."""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edgeq
from edgeq import files
from edgeq.bundle import Bundle, Golden, Manifest, write_bundle
from edgeq.daemon.deployment import Context, Deployment
from edgeq.engines.base import Engine, EngineKind
from edgeq.engines.cpu import CpuEngine
from edgeq.engines.table import CPU, choose_backend, load_cpu, load_float
from edgeq.errors import EdgeqError, EngineError, RegistryError, SwapError
from edgeq.intake.admit import Admitted
from edgeq.observe.drift import DriftMonitor, DriftReference
from edgeq.registry import Version
from edgeq.swap import LiveInfo
from edgeq.tflite.runtime import TensorSpec, runtime_version

logger = logging.getLogger(__name__)

BUNDLES_KEPT = 5  # of each model, the live and the previous one included
GOLDEN_RUNS = 2  # of a float model, on inputs of its own making


class Publisher:
    """Used by the deploy thread only."""

    def __init__(self, context: Context) -> None:
        self._context = context

    # ---- new versions

    def install_dropped(self, deployment: Deployment, drop: Admitted) -> None:
        """Serve a drop as it came: the float model, or one that arrived as INT8.

        Raises:
            EdgeqError: it could not be published; what served before still serves.
        """
        content = drop.path.read_bytes()
        kind: EngineKind = "cpu-int8" if drop.probe.quantized else "float"
        method = "as-is" if drop.probe.quantized else "float"
        registry, name = self._context.registry, deployment.name
        version = registry.add_version(name, model_sha256=drop.sha256, engine=kind, method=method)
        engine = CpuEngine(content, kind, threads=1)
        try:
            golden = make_golden(engine)
        finally:
            engine.close()
        manifest = Manifest(
            name=name,
            engine=kind,
            backend="cpu",
            method=method,
            model_sha256=drop.sha256,
            samples=0,
            runtime=str(runtime_version()),
            edgeq=edgeq.__version__,
            created=time.time(),
        )
        contents = {"float.tflite": content, "golden.npz": golden.to_npz()}
        if drop.probe.quantized:
            contents["int8.tflite"] = content
        directory = self._context.paths.bundle(name, version)
        self.publish(deployment, version, write_bundle(directory, contents, manifest))

    def install_built(self, deployment: Deployment, built: Path) -> None:
        """Take over the bundle that a build child wrote, and serve it.

        Raises:
            EdgeqError: it could not be published; what served before still serves.
        """
        manifest = Bundle.open(built).manifest
        registry, name = self._context.registry, deployment.name
        version = registry.add_version(
            name,
            model_sha256=manifest.model_sha256,
            engine=manifest.engine,
            method=manifest.method,
        )
        registry.set_state(name, version, "verified")
        target = self._context.paths.bundle(name, version)
        files.make_directory(target.parent)
        files.publish_directory(built, target)
        self.publish(deployment, version, Bundle.open(target))

    def publish(self, deployment: Deployment, version: int, bundle: Bundle) -> None:
        """Load, warm, check, switch and drain; then make the version the committed one.

        Raises:
            SwapError: the new engine was not published; what was live is live.
        """
        registry, metrics, name = self._context.registry, self._context.metrics, deployment.name
        try:
            seconds = self._put_in_slot(deployment, version, bundle)
        except SwapError as error:
            registry.set_state(name, version, "rejected", error.message)
            registry.record(name, "rejected", error.message, version=version)
            metrics.swaps.labels(name, "rejected").inc()
            raise
        self._commit(deployment, version)
        self._took_over(deployment, bundle.manifest)
        registry.record(
            name,
            "committed",
            f"version {version} serves ({bundle.manifest.engine}, {bundle.manifest.method})",
            version=version,
            seconds=round(seconds, 4),
        )
        metrics.swaps.labels(name, "committed").inc()
        metrics.swap_duration.labels(name).observe(seconds)
        self._forget_old(name)
        logger.info(
            "published",
            extra={
                "model": name,
                "version": version,
                "engine": bundle.manifest.engine,
                "seconds": seconds,
            },
        )

    def _commit(self, deployment: Deployment, version: int) -> None:
        """Record what the slot serves; if that fails, the slot goes back to what is recorded."""
        registry, name = self._context.registry, deployment.name
        try:
            registry.commit(name, version)
        except RegistryError:
            before = registry.live(name)
            if before is not None:
                bundle = Bundle.open(self._context.paths.bundle(name, before.version))
                self._put_in_slot(deployment, before.version, bundle)
            raise

    # ---- versions that were committed before

    def restore(self, deployment: Deployment) -> None:
        """Serve the last committed version again, or an older one if it no longer proves itself.

        Raises:
            SwapError: no version can be served.
        """
        registry, name = self._context.registry, deployment.name
        last_error = ""
        while (live := registry.live(name)) is not None:
            try:
                bundle = Bundle.open(self._context.paths.bundle(name, live.version))
                self._put_in_slot(deployment, live.version, bundle)
            except EdgeqError as error:
                last_error = error.message
                logger.error("not restored", extra=_fields(live, reason=error.message))
                if registry.previous(name) is None:
                    break
                self._record_rollback(registry.rollback(name, error.message), error.message)
            else:
                self._took_over(deployment, bundle.manifest)
                logger.info("restored", extra=_fields(live))
                return
        raise SwapError(
            f"model {name!r} has no version that can be served: {last_error or 'none committed'}",
            hint=f"Drop {name}.tflite again.",
        )

    def rollback(self, deployment: Deployment, reason: str, to: int | None = None) -> Version:
        """Publish the previous version (or `to`) and mark the live one rolled back.

        Raises:
            RegistryError: there is no such version.
            EdgeqError: the older version cannot be served; the live one stays.
        """
        registry, name = self._context.registry, deployment.name
        target = registry.rollback_target(name, to)
        bundle = Bundle.open(self._context.paths.bundle(name, target.version))
        self._put_in_slot(deployment, target.version, bundle)
        registry.rollback(name, reason, to=target.version)
        self._took_over(deployment, bundle.manifest)
        self._record_rollback(target, reason)
        return target

    def _record_rollback(self, target: Version, reason: str) -> None:
        context = self._context
        message = f"went back to version {target.version}: {reason}"
        context.registry.record(target.name, "rolled_back", message, version=target.version)
        context.metrics.swaps.labels(target.name, "rolled_back").inc()
        logger.warning("rolled back", extra=_fields(target, reason=reason))

    # ---- what serves

    def note_engine(self, deployment: Deployment, live: LiveInfo) -> None:
        """Say it where another engine answers than before: a GPU failed, or is well again.

        `live` is what served a moment ago, when it was seen; it may have changed once more.
        """
        serving = deployment.slot.live
        is_old = serving is None or serving.version != live.version
        if is_old or live.engine == deployment.noted_engine:
            return
        message = f"answers come from {live.engine}, not from {deployment.noted_engine} any more"
        reason = live.fault or "it is well again"
        self._name_engine(deployment, live)
        name, version = deployment.name, int(live.version)
        self._context.registry.record(name, "engine", f"{message}: {reason}", version=version)
        fields = {"model": name, "version": version, "engine": live.engine, "reason": reason}
        logger.warning("engine changed", extra=fields)

    def _name_engine(self, deployment: Deployment, live: LiveInfo) -> None:
        deployment.noted_engine = live.engine
        name, method = deployment.name, deployment.method
        self._context.metrics.set_live(name, live.version, live.engine, method)

    # ---- parts

    def _put_in_slot(self, deployment: Deployment, version: int, bundle: Bundle) -> float:
        golden = Golden.from_npz(bundle.read("golden.npz"))
        threads = self._context.config.swap.threads
        load = functools.partial(load_engine, bundle, threads)
        return deployment.slot.publish(str(version), load, golden, policy=deployment.sidecar.policy)

    def _took_over(self, deployment: Deployment, manifest: Manifest) -> None:
        live = deployment.slot.live
        assert live is not None
        deployment.method = manifest.method
        deployment.model_sha256 = manifest.model_sha256
        self._name_engine(deployment, live)
        deployment.monitor = self._monitor(deployment, live.version)
        deployment.drift = None

    def _monitor(self, deployment: Deployment, version: str) -> DriftMonitor | None:
        bundle = Bundle.open(self._context.paths.bundle(deployment.name, int(version)))
        options = self._context.config.drift.drift_options
        if options.policy == "off" or not bundle.has("drift.npz"):
            return None
        return DriftMonitor(DriftReference.from_npz(bundle.read("drift.npz")), options)

    def _forget_old(self, name: str) -> None:
        """Remove the bundles and series of versions that nobody will go back to."""
        registry = self._context.registry
        serving = {v.version for v in (registry.live(name), registry.previous(name)) if v}
        for old in registry.versions(name)[BUNDLES_KEPT:]:
            if old.version not in serving:
                registry.remove_version(name, old.version)
                files.remove_tree(self._context.paths.bundle(name, old.version))
                self._context.metrics.forget_version(name, str(old.version))


def load_engine(bundle: Bundle, threads: int) -> Engine:
    """Load what a bundle holds.

    A GPU that is not usable any more (a driver update, say) must not silence the box: the same
    INT8 model then runs on the CPU, with the same answers.

    Raises:
        EngineError: this box cannot run it.
    """
    if bundle.manifest.engine == "float":
        return load_float(bundle.read("float.tflite"), threads=threads)
    content, wanted = bundle.read("int8.tflite"), bundle.manifest.backend
    try:
        backend = choose_backend(wanted)
    except EngineError as error:
        if wanted == CPU.name:
            raise
        fields = {"model": bundle.manifest.name, "backend": wanted, "reason": error.message}
        logger.warning("serving on the CPU", extra=fields)
        return load_cpu(content, threads)
    return backend.load(content, threads, bundle.read_if_there)


def make_golden(engine: Engine) -> Golden:
    """Return answers of a model for which no sample exists yet, on seeded random inputs."""
    draw = np.random.default_rng(0)
    inputs = tuple(
        {spec.name: _random(spec, draw) for spec in engine.inputs} for _ in range(GOLDEN_RUNS)
    )
    return Golden(inputs, tuple(engine.infer(given) for given in inputs))


def _random(spec: TensorSpec, draw: np.random.Generator) -> npt.NDArray[Any]:
    shape = [max(1, extent) for extent in spec.shape]
    if spec.dtype.kind == "f":
        return draw.random(shape).astype(spec.dtype)
    return draw.integers(0, 2, shape).astype(spec.dtype)


def _fields(version: Version, reason: str = "") -> dict[str, object]:
    fields = {"model": version.name, "version": version.version, "engine": version.engine}
    return {**fields, "reason": reason} if reason else fields
