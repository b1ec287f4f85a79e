"""How the runs before this one ended -> what this one may load, and whether it takes drops.

A run that neither stopped when it was asked to nor lasted is an unclean start. After a few in a row
the next run is in safe mode: it serves, on the CPU and from what has proven itself, and takes no
drop and builds nothing until it has been well for a while. What is noted does not depend on the
clock, which many boards have wrong after a power cut, and is overwritten in place, because a full
disk refuses a new file.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from edgeq import files
from edgeq.engines.base import EngineKind

logger = logging.getLogger(__name__)

Allowed = Literal["all", "cpu", "float", "none"]  # engines: any, no GPU's, float models only

SAFE_MODE_REFUSAL = "edgeq is in safe mode and only serves; `edgeq resume` ends it"
NOTE_BYTES = 4096
WORDS_KEPT = 400  # characters
HUNG_KEPT = 24  # engines
MOST_HANGS = 3  # of an engine that nothing can replace, before it is not loaded any more
TRIES = 2  # starts in safe mode, before the next one allows less
DAY_S = 86_400.0  # as long as this, safe mode lasts at most, and is remembered


@dataclass(frozen=True)
class SafeModeOptions:
    """When safe mode begins and ends."""

    unclean_starts: int = 3  # in a row; 0: never
    within_s: float = 600.0  # a run that lasts longer has proven itself
    quiet_s: float = 1800.0  # without a crash end it; doubled each time until a clean stop


@dataclass(frozen=True)
class HungEngine:
    """An engine that did not come back from an inference."""

    name: str
    version: int
    engine: EngineKind
    times: int = 1


@dataclass(frozen=True)
class StartNote:
    """What outlives a run."""

    is_running: bool = False  # or died: a stop was not asked for
    unclean: int = 0  # starts in a row
    left: int = 0  # times that safe mode ended by itself
    hung: tuple[HungEngine, ...] = ()
    last_words: str = ""  # why a run had itself ended

    @classmethod
    def from_json(cls, content: bytes) -> StartNote:
        """Read what `to_json` gave; ValueError, KeyError or TypeError where that is none."""
        note = json.loads(content)
        hung = tuple(HungEngine(**each) for each in note["hung"])
        words = str(note.get("last_words", ""))
        return cls(bool(note["is_running"]), int(note["unclean"]), int(note["left"]), hung, words)

    def to_json(self) -> bytes:
        """Return it in a form of its own length always."""
        hung = [asdict(each) for each in self.hung]
        while True:
            content = json.dumps({**asdict(self), "hung": hung}).encode()
            if len(content) < NOTE_BYTES:
                return content.ljust(NOTE_BYTES - 1) + b"\n"
            hung = hung[1:]

    def after_start(self) -> StartNote:
        """Return this with one more run."""
        return replace(self, is_running=True, unclean=self.unclean + self.is_running)

    def after_hang(self, name: str, version: int, engine: EngineKind) -> StartNote:
        """Return this with an engine that hung."""
        known = next((e for e in self.hung if (e.name, e.version) == (name, version)), None)
        times = known.times + 1 if known else 1
        others = tuple(each for each in self.hung if each is not known)
        return replace(self, hung=(*others, HungEngine(name, version, engine, times))[-HUNG_KEPT:])


@dataclass(frozen=True)
class SafeMode:
    """Why and how long nothing is built."""

    reason: str
    since: float  # seconds since the epoch
    ends: float  # time.monotonic()
    allowed: Allowed

    def as_status(self) -> dict[str, Any]:
        """Return what the status shows."""
        left_s = max(0.0, self.ends - time.monotonic())
        engines = {"cpu": "on the CPU", "float": "float models", "none": "none", "all": "all"}
        return {
            "reason": self.reason,
            "since": round(self.since, 1),
            "ends_in_s": round(left_s, 1),
            "engines": engines[self.allowed],
        }


@dataclass(eq=False)
class Starts:
    """The owner of the note; safe to share between threads. Without a path nothing is kept.

    Methods that write say in `problem` why the disk did not take it, and go on.
    """

    path: Path | None = None
    options: SafeModeOptions = field(default_factory=SafeModeOptions)
    clock: Callable[[], float] = time.monotonic
    safe_mode: SafeMode | None = None
    problem: str = ""
    refusal: OSError | None = None  # behind the problem
    last_words: str = ""  # of the run before, where it had itself ended

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._note = StartNote()
        self._began = self.clock()
        self._has_proven_itself = False

    # ---- this run

    def begin(self) -> None:
        """Count this run, before anything is loaded; safe mode is set where it is time for it."""
        self._began, self._has_proven_itself = self.clock(), False
        before = self._read()
        self.last_words = before.last_words
        self._change(replace(before.after_start(), last_words=""))
        limit, unclean = self.options.unclean_starts, self._note.unclean
        self.safe_mode = None
        if limit and unclean >= limit:
            allowed: tuple[Allowed, ...] = ("cpu", "float", "none")
            step = min((unclean - limit) // TRIES, len(allowed) - 1)
            quiet_s = min(self.options.quiet_s * 2.0 ** min(self._note.left, 16), DAY_S)
            reason = f"edgeq died {unclean} times in a row soon after its start"
            ends = self._began + quiet_s
            self.safe_mode = SafeMode(reason, time.time(), ends, allowed[step])

    def look(self, now: float) -> bool:
        """Take note of a run that lasts; True where it may leave safe mode now."""
        if self.safe_mode is not None:
            return now >= self.safe_mode.ends
        if not self._has_proven_itself and now - self._began >= self.options.within_s:
            self._has_proven_itself = True
            self._change(replace(self._note, unclean=0))
        if self._note.left and now - self._began >= DAY_S:
            self._change(replace(self._note, left=0))
        return False

    def leave(self, *, is_asked_for: bool) -> None:
        """End safe mode; where nobody asked for it, the next unclean start brings it back."""
        self.safe_mode = None
        self._began, self._has_proven_itself = self.clock(), False
        unclean = 0 if is_asked_for else max(0, self.options.unclean_starts - 1)
        left = 0 if is_asked_for else self._note.left + 1
        self._change(replace(self._note, unclean=unclean, left=left))

    def stop(self) -> None:
        """Note that the end which follows was asked for, or has been told of."""
        self._change(replace(self._note, is_running=False, unclean=0, left=0))

    def note_end(self, why: str) -> None:
        """Leave word for the next run, before this one has itself ended."""
        self._change(replace(self._note, last_words=why[:WORDS_KEPT]))

    @property
    def allowed(self) -> Allowed:
        """Which engines may be loaded."""
        return self.safe_mode.allowed if self.safe_mode else "all"

    # ---- engines that hung

    def note_hung(self, name: str, version: int, engine: EngineKind) -> None:
        """Remember an engine that hung, for this run and those that follow."""
        self._change(self._note.after_hang(name, version, engine))

    def hung(self, name: str, version: int) -> HungEngine | None:
        """Return what is remembered of a version's engine."""
        found = [e for e in self._note.hung if (e.name, e.version) == (name, version)]
        return found[0] if found else None

    def forget_hung(self, name: str) -> None:
        """Forget a model's engines that hung: a person wants one of them again."""
        kept = tuple(each for each in self._note.hung if each.name != name)
        if kept != self._note.hung:
            self._change(replace(self._note, hung=kept))

    # ---- the file

    def _read(self) -> StartNote:
        if self.path is None or not self.path.exists():
            return StartNote()
        try:
            return StartNote.from_json(self.path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("the note of earlier starts cannot be read", extra={"reason": error})
            return StartNote(is_running=True)  # torn by a crash, perhaps

    def _change(self, note: StartNote) -> None:
        with self._lock:
            self._note = note
            if self.path is None:
                return
            try:
                files.overwrite(self.path, note.to_json())
                self.problem, self.refusal = "", None
            except OSError as error:
                self.refusal = error
                said = f"starts are not counted: {error}"
                if said != self.problem:
                    logger.warning(said)
                self.problem = said
