"""The daemon: startup -> loop -> shutdown; starts and joins every thread and child.

main      signals, timers, supervision and the service manager's watchdog (supervision.py)
scan      looks at the drop folder, which may be on a disk that hangs
intake    opens drops in a child, one after the other (drops.py)
deploy    drops, swaps, rollbacks, one after the other (deployer.py)
capture   samples and drift windows (capture.py)
server    the event loop of the data plane (frontends.py, serve/server.py)
infer-*   a worker for each engine, owned by its slot (swap/); quick models run on server's thread
shadow-*  the version before, beside one on probation (swap/shadow.py)
build-*   reads the progress of the one build child (builder.py)
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import edgeq
from edgeq import allocator, files, log
from edgeq.config import Config, cautions, describe_changes, load
from edgeq.daemon.admin import AdminCommands
from edgeq.daemon.arrivals import Arrivals
from edgeq.daemon.builder import Builder, BuildJob, BuildOutcome
from edgeq.daemon.capture import Capture
from edgeq.daemon.clock import ClockWatch, jump_in_words
from edgeq.daemon.deployer import Deployer
from edgeq.daemon.deployment import Context, Deployment, Paths
from edgeq.daemon.drift import DriftWatch
from edgeq.daemon.folder import FolderWatch
from edgeq.daemon.frontends import Frontends
from edgeq.daemon.plane import Plane
from edgeq.daemon.starts import SafeModeOptions, Starts
from edgeq.daemon.supervision import Duties, Hands, Supervision, count_start
from edgeq.daemon.taking import Taking
from edgeq.daemon.watching import WatchKeeper, save_watch
from edgeq.errors import ConfigError, EdgeqError
from edgeq.intake.hints import EventHints
from edgeq.intake.quarantine import Quarantine
from edgeq.intake.watch import Scanner
from edgeq.observe.board import sources
from edgeq.observe.board_watch import BoardWatch
from edgeq.observe.metrics import Metrics
from edgeq.registry import Registry
from edgeq.swap import Hang, InferRecord
from edgeq.systemd import Notifier
from edgeq.tflite.runtime import runtime_version

T = TypeVar("T")
logger = logging.getLogger(__name__)

TICK_S = 1.0  # probation and drift are looked at this often
SCAN_PATIENCE_S = 5.0  # for a look at the drop folder that runs when the stop comes
SHUTDOWN_GRACE_S = 10.0  # for requests that are inside when the stop comes


class Daemon:
    """One daemon over one configuration; `run` returns after a clean stop.

    Args:
        config_path: what a reload reads again.
        environ: the variables that override the file.
    """

    def __init__(self, config_path: Path | None, environ: Mapping[str, str]) -> None:
        allocator.bound_arenas()
        self._config_path = config_path
        self._environ = dict(environ)
        config = load(config_path, self._environ)
        paths = Paths(config.state_dir)
        _make_folders(config, paths)
        metrics = Metrics(edgeq.__version__, str(runtime_version()))
        registry = Registry(paths.registry)
        quarantine = Quarantine(paths.quarantine)
        starts = Starts(paths.starts, SafeModeOptions(**config.safe_mode.model_dump()))
        self._context = Context(config, paths, registry, quarantine, metrics, starts=starts)
        metrics.watch_board(BoardWatch(sources(self._context.root, paths.state)).read)
        self._wake: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._duties = Duties()
        self._intake = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._deploy = ThreadPoolExecutor(1, thread_name_prefix="deploy")
        builder = Builder(paths.building, self._on_progress, self._on_build_end)
        self._builder = builder
        self._deployer = Deployer(self._context, builder, self._on_infer)
        self._drift = DriftWatch(self._context, self._deployer)
        self._keeper = WatchKeeper(self._context)
        self._clock = ClockWatch()
        note = self._context.faults.note_error
        self._capture = Capture(self._on_stored, note, self._duties.at)
        known = registry.names()
        self._scanner = Scanner(config.models_dir, config.intake.settle_s, known=known)
        self._hints = EventHints(config.models_dir, lambda: self._wake.put("hint"))
        self._taking = Taking(self._context, self._deployer, self._on_deploy_thread, self._rescan)
        self._notifier = Notifier.from_environment()
        self._threads: list[threading.Thread] = []
        self._is_stopping = False
        self._arrivals = Arrivals(
            self._scanner,
            self._hints,
            lambda name: name in self._deployer.deployments,
            self._on_arrival,
            self._on_removal,
        )
        self._folder = FolderWatch(
            self._context, self._arrivals.look, self._guarded, lambda: self._wake.put("looked")
        )
        self._latest_tick: Future[None] | None = None

    # ---- startup

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            EdgeqError: the daemon could not start.
        """
        faulthandler.enable()  # the watchdog ends a process that hangs by SIGABRT: say where it was
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._start()
            self._loop()
            self._context.starts.stop()
        except EdgeqError:
            self._context.starts.stop()  # it says what is wrong: no crash
            raise
        finally:
            self._shut_down()

    def _start(self) -> None:
        count_start(self._context)
        context = self._context
        note = context.faults.note_error
        self._frontends = Frontends(context.config, context.metrics, self._notifier, note)
        hands = Hands(
            self._frontends.beat,
            lambda: self._wake.put("beat"),
            self._replace,
            self._leave_safe_mode,
        )
        self._supervision = Supervision(self._context, self._notifier, self._duties, hands)
        self._on_deploy_thread(self._deployer.restore)
        self._serve()
        self._start_thread("server", self._frontends.run)
        self._frontends.wait_started()
        self._start_thread("capture", self._capture.run)
        if not self._hints.start():
            logger.warning(f"no file events, only rescans: {self._hints.problem}")
        self._deploy.submit(self._guarded, self._deployer.resume_builds)
        self._notifier.notify(READY=1, STATUS=self._summary(), MAINPID=os.getpid())
        logger.info(f"serving on {self._frontends.where}")
        for caution in cautions(self._context.config):
            logger.warning(caution)

    def _serve(self) -> None:
        admin = AdminCommands(
            self._context, self._deployer, self._on_deploy_thread, self.reload, self._rescan
        )
        plane = Plane(
            self._deployer,
            self._capture,
            lambda: self._context.config.samples.capture_ratio,
            self._on_deploy_thread,
        )
        self._frontends.serve(plane, admin)

    def _start_thread(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name)
        thread.start()
        self._threads.append(thread)

    # ---- loop

    def _loop(self) -> None:
        next_tick = 0.0
        while not self._is_stopping:
            now = time.monotonic()
            if self._supervision.look(now, list(self._deployer.deployments.values())):
                self._ping()
            self._folder.start_if_due(now)
            if now >= next_tick:
                self._start_tick()
                self._sample_latencies()
                next_tick = now + TICK_S
            now = time.monotonic()
            due_s = min(self._folder.due_in_s(now), self._supervision.interval_s)
            self._sleep(min(due_s, max(0.0, next_tick - now)))

    def _sleep(self, seconds: float) -> None:
        try:
            word = self._wake.get(timeout=seconds)
        except queue.Empty:
            return
        if word == "reload":
            self._reload_quietly()
        elif word == "hint":
            self._folder.hint()

    def _start_tick(self) -> None:
        """Have the deploy thread look at what it watches, unless it has not come to it yet."""
        if self._latest_tick is None or self._latest_tick.done():
            self._latest_tick = self._deploy.submit(self._guarded, self._tick)

    def _on_arrival(self) -> None:
        self._intake.submit(self._guarded, self._take_next)

    def _on_removal(self, name: str) -> None:
        self._deploy.submit(self._guarded, self._deployer.removed, name)

    def _take_next(self) -> None:
        candidate = self._arrivals.take()
        if candidate is not None:
            self._taking.take(candidate)

    def _tick(self) -> None:
        self._context.events.write_kept()
        self._taking.look()
        self._frontends.look()
        if jump := self._clock.look():
            self._context.faults.note("clock_jump", jump_in_words(jump, time.time()))
            for deployment in self._deployer.deployments.values():
                self._deployer.recalibrations.clock_jumped(deployment, jump)
        for deployment in list(self._deployer.deployments.values()):
            self._guarded(self._deployer.check_probation, deployment)  # whatever the others do
            if self._context.starts.safe_mode is None:
                self._guarded(self._drift.check, deployment)
            self._guarded(self._keeper.keep, deployment)

    def _sample_latencies(self) -> None:
        """On this thread: the deploy thread may be busy with a swap."""
        for deployment in list(self._deployer.deployments.values()):
            deployment.series.tick(time.time(), deployment.slot.live, deployment.latencies.records)

    def _ping(self) -> None:
        """Tell the watchdog that all is well, unless a thread that must run has ended.

        The loop that serves has just answered, and this one runs: `Supervision.look`.
        """
        if all(thread.is_alive() for thread in self._threads):
            self._notifier.notify(WATCHDOG=1, STATUS=self._summary())

    def _summary(self) -> str:
        deployments = list(self._deployer.deployments.values())
        listed = ", ".join(f"{d.name} v{d.version} {d.engine}" for d in deployments if d.version)
        return f"serving {listed}" if listed else "waiting for a drop"

    # ---- what other threads call

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._wake.put("reload")
            return
        self._is_stopping = True
        self._wake.put("stop")

    def _on_deploy_thread(self, function: Callable[[], T]) -> T:
        return self._deploy.submit(self._on_duty, function).result()

    def _on_duty(self, function: Callable[[], T]) -> T:
        with self._duties.at(function.__qualname__):
            return function()

    def _replace(self, deployment: Deployment, hang: Hang) -> None:
        """Have an engine that hangs replaced; on the main thread, which waits for nothing."""
        self._deploy.submit(self._guarded, self._deployer.failures.replace, deployment, hang)

    def _leave_safe_mode(self) -> None:
        self._deploy.submit(self._guarded, self._deployer.failures.leave_safe_mode)
        self._deploy.submit(self._guarded, self._deployer.resume_builds)

    def _guarded(self, function: Callable[..., None], *arguments: Any) -> None:
        """The deploy thread's last resort: log a failure, so that the next drop is still taken."""
        try:
            with self._duties.at(getattr(function, "__qualname__", repr(function))):
                function(*arguments)
        except Exception as error:
            if self._context.faults.note_error(error, "what serves goes on") is not None:
                return
            if isinstance(error, EdgeqError):
                logger.error(error.message, extra={"hint": error.hint})
            else:
                logger.exception("unexpected failure; what serves goes on")

    def _on_progress(self, job: BuildJob, step: dict[str, Any]) -> None:
        deployment = self._deployer.deployments.get(job.name)
        if deployment is not None and deployment.building is job:
            deployment.progress = step

    def _on_build_end(self, outcome: BuildOutcome) -> None:
        if not self._is_stopping:
            self._deploy.submit(self._guarded, self._deployer.build_ended, outcome)

    def _on_stored(self, deployment: Deployment) -> None:
        has_enough = len(deployment.store) >= self._context.config.samples.minimum
        if has_enough and (deployment.engine == "float" or deployment.foreign):
            self._deploy.submit(self._guarded, self._deployer.consider_build, deployment, "samples")

    def _on_infer(self, record: InferRecord) -> None:
        self._context.metrics.count_inference(
            record.name, record.version, record.engine, record.infer_s, record.queue_s
        )
        self._look_at_engine(record.name)

    def _look_at_engine(self, name: str) -> None:
        """Have it noted if the answer came from another engine than the last one."""
        deployment = self._deployer.deployments.get(name)
        live = deployment.slot.live if deployment else None
        if deployment is None or live is None or self._is_stopping:
            return
        if live.engine != deployment.noted_engine:
            note = self._deployer.publisher.note_engine
            self._deploy.submit(self._guarded, note, deployment, live)

    def _rescan(self, name: str) -> None:
        self._scanner.forget(name)
        self._wake.put("hint")

    # ---- reload

    def reload(self) -> dict[str, Any]:
        """Read the configuration again and bring it into force; returns what changed.

        Raises:
            ConfigError: the file is wrong; the old configuration stays in force.
        """
        self._notifier.reloading()
        try:
            new = load(self._config_path, self._environ)
            self._frontends.reload_certificates()
        finally:
            self._notifier.notify(READY=1, STATUS=self._summary())
        changes = describe_changes(self._context.config, new)
        self._context.config = new
        log.configure(new.log.format, new.log.level)
        for key in changes.needs_restart:
            logger.warning(f"{key} changed; it needs a restart to come into force")
        logger.info("configuration reloaded", extra={"reason": ", ".join(changes.applied)})
        return asdict(changes)

    def _reload_quietly(self) -> None:
        try:
            self.reload()
        except ConfigError as error:
            logger.error(f"not reloaded: {error.message}", extra={"hint": error.hint})

    # ---- shutdown

    def _shut_down(self) -> None:
        """In reverse order of the start; requests inside are answered first."""
        self._is_stopping = True
        self._notifier.notify(STOPPING=1, STATUS="draining")
        self._hints.stop()
        self._builder.close()
        if hasattr(self, "_frontends"):
            self._frontends.stop(SHUTDOWN_GRACE_S)
        is_hung = bool(self._duties.longer_than(SCAN_PATIENCE_S, time.monotonic()))
        self._folder.stop(wait=not is_hung)
        self._intake.shutdown(wait=True, cancel_futures=True)
        self._deploy.shutdown(wait=True, cancel_futures=True)
        self._capture.stop()
        for thread in reversed(self._threads):
            thread.join()
        for deployment in self._deployer.deployments.values():
            save_watch(self._context, deployment)
        self._deployer.close()
        if hasattr(self, "_frontends"):
            self._frontends.close()
        self._context.events.close()
        self._context.registry.close()
        logger.info("stopped")


def _make_folders(config: Config, paths: Paths) -> None:
    """Make the state folder, private to the daemon, and sweep what a crash left half-written."""
    for folder in (config.state_dir, config.models_dir, paths.staging):
        try:
            files.make_directory(folder)
        except OSError as error:
            raise EdgeqError(
                f"{folder} cannot be made: {error.strerror}",
                hint="Make it writable for the user edgeq runs as, or set state_dir.",
            ) from error
    for folder in (paths.staging, paths.state / "bundles"):
        if folder.is_dir():
            files.sweep_temporaries(folder)
    for leftover in paths.staging.glob("*"):
        with contextlib.suppress(OSError):  # a disk that takes no writes: then at the next start
            leftover.unlink(missing_ok=True)
