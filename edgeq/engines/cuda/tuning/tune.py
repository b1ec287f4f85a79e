"""The ways to carry out a node -> the fastest, timed on the device where there is one.

A Tuner's `pick` goes into `make_plan`. It does not know the device: a timer is given to it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgeq.engines.cuda.binding.site import Choice
from edgeq.engines.cuda.compiling.compile import CompiledKernel
from edgeq.engines.cuda.estimating.occupancy import occupancy
from edgeq.engines.cuda.launch import Kernel
from edgeq.engines.cuda.planning.plan import Candidates, Plan, Trial
from edgeq.engines.cuda.targets import Target
from edgeq.engines.cuda.tuning.remembered import DeviceIdentity, Remembered, tuning_key
from edgeq.errors import DeviceError, EngineError

MOST_CHOICES = 8  # of a node that are timed
MOST_CHOICES_SLOW = 3  # where a kernel takes a second to compile: the Nano and the TX2
ROUNDS = 5
HOPELESS = 1.3  # times the fastest of the first round: not timed again

# Microseconds of a trial's launches on the device, with the cubins of its kernels.
Timer = Callable[[Trial, Mapping[Kernel, bytes]], float]
Compile = Callable[[Sequence[Kernel]], Mapping[Kernel, CompiledKernel]]


@dataclass(frozen=True)
class Tuned:
    """What was chosen for a node, and the microseconds of all that were timed for it now."""

    label: str
    choice: str
    microseconds: float
    is_measured: bool  # now or before; or estimated, where there was no choice or no timing
    timings: Mapping[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()  # choices that could not be timed, and why


@dataclass(frozen=True)
class Tuning:
    """All of a net's choices."""

    tuned: bool  # on a device
    reason: str  # why not, or what went wrong meanwhile; "" where all went well
    nodes: tuple[Tuned, ...]


@dataclass
class Tuner:
    """Chooses for the nodes of one plan after the other.

    Args:
        target: the GPU's.
        device: which it is, as far as timings depend on it.
        timer: times a trial on it.
        compile: kernels -> their cubins.
        remembered: what was tuned before.
        progress: called with how many nodes are done.
    """

    target: Target
    device: DeviceIdentity
    timer: Timer
    compile: Compile
    remembered: Remembered = field(default_factory=Remembered)
    progress: Callable[[int], None] | None = None
    nodes: list[Tuned] = field(default_factory=list)

    def pick(self, candidates: Candidates) -> Choice:
        """Return the fastest choice.

        Raises:
            DeviceError: the device is lost.
        """
        tuned = self._tune(candidates)
        self.nodes.append(tuned)
        if self.progress:
            self.progress(len(self.nodes))
        return next(c for c in candidates.choices if c.name == tuned.choice)

    def tuning(self) -> Tuning:
        """Return what was chosen, and write down what was learned."""
        unkept = self.remembered.save()
        problems = [problem for node in self.nodes for problem in node.problems]
        return Tuning(True, "; ".join([*problems, *filter(None, [unkept])]), tuple(self.nodes))

    def _tune(self, candidates: Candidates) -> Tuned:
        most = MOST_CHOICES if self.target.has_dp4a else MOST_CHOICES_SLOW
        choices = prune(candidates.choices, most)
        if len(choices) == 1:
            return Tuned(candidates.label, choices[0].name, choices[0].microseconds, False)
        names = [choice.name for choice in choices]
        key = tuning_key(self.device, candidates.trial(names[0]).launches, names)
        if known := self.remembered.get(key):
            return Tuned(candidates.label, *known, is_measured=True)
        tuned = self._time(candidates, choices)
        if tuned.is_measured:
            self.remembered.add(key, tuned.label, tuned.choice, tuned.microseconds)
        return tuned

    def _time(self, candidates: Candidates, choices: Sequence[Choice]) -> Tuned:
        """Time in rounds, all choices one after the other in each, so that a clock's drift is fair.

        After the first round only those near the fastest go on.
        """
        trials = {choice.name: candidates.trial(choice.name) for choice in choices}
        problems: dict[str, str] = {}
        cubins = self._compile(trials, problems)
        times: dict[str, list[float]] = {name: [] for name in cubins}
        for _ in range(ROUNDS):
            for name in _hopeful(times, problems):
                self._time_once(trials[name], cubins[name], times[name], name, problems)
        return _fastest(candidates.label, choices, times, problems)

    def _time_once(
        self,
        trial: Trial,
        cubins: Mapping[Kernel, bytes],
        times: list[float],
        name: str,
        problems: dict[str, str],
    ) -> None:
        try:
            times.append(self.timer(trial, cubins))
        except DeviceError as error:
            if error.is_sticky:
                raise
            problems[name] = error.message

    def _compile(
        self, trials: Mapping[str, Trial], problems: dict[str, str]
    ) -> dict[str, dict[Kernel, bytes]]:
        """Return the cubins of each choice that can be launched; note why others cannot."""
        kernels = {name: [k.kernel for k in trial.launches] for name, trial in trials.items()}
        known = self._compile_all(kernels, problems)
        for name, own in kernels.items():
            if name not in problems and not all(self._fits(known[kernel]) for kernel in own):
                problems[name] = "no multiprocessor can hold a block of it"
        return {
            name: {kernel: known[kernel].image for kernel in own}
            for name, own in kernels.items()
            if name not in problems
        }

    def _compile_all(
        self, kernels: Mapping[str, list[Kernel]], problems: dict[str, str]
    ) -> dict[Kernel, CompiledKernel]:
        """Compile all at once; where one is refused, choice by choice."""
        try:
            return dict(self.compile([kernel for own in kernels.values() for kernel in own]))
        except EngineError:
            known: dict[Kernel, CompiledKernel] = {}
        for name, own in kernels.items():
            try:
                known |= self.compile(own)
            except EngineError as error:
                problems[name] = error.message
        return known

    def _fits(self, compiled: CompiledKernel) -> bool:
        kernel, taken = compiled.kernel, compiled.resources
        shared_bytes = taken.shared_bytes + kernel.dynamic_shared_bytes
        return occupancy(self.target, kernel.threads, taken.registers, shared_bytes).blocks > 0


def estimated(plan: Plan, reason: str) -> Tuning:
    """Return the tuning of a plan that the cost model made, and why no device was asked."""
    nodes = (Tuned(s.label, s.choice, s.microseconds, is_measured=False) for s in plan.steps)
    return Tuning(False, reason, tuple(nodes))


def prune(choices: Sequence[Choice], most: int) -> list[Choice]:
    """Return the best by estimate, among them the best of every kernel or chain of kernels.

    An estimate says more of two tiles than of two kernels. The order of the choices is kept.
    """
    by_estimate = sorted(choices, key=lambda choice: choice.microseconds)
    best_of = {_kernels_of(choice.name): choice for choice in reversed(by_estimate)}
    firsts = sorted(best_of.values(), key=lambda choice: choice.microseconds)[:most]
    others = [choice for choice in by_estimate if choice not in firsts]
    kept = {choice.name for choice in [*firsts, *others][:most]}
    return [choice for choice in choices if choice.name in kept]


def _kernels_of(name: str) -> tuple[str, ...]:
    """Return the templates in a choice's name, as in 'depthwise_tiled 1x4 + conv_mma 64x64'."""
    return tuple(part.split()[0] for part in name.split(" + "))


def _hopeful(times: Mapping[str, list[float]], problems: Mapping[str, str]) -> list[str]:
    """Return what is worth another round: all at first, then the fastest and what is near it."""
    least = {name: min(own, default=0.0) for name, own in times.items() if name not in problems}
    best = min(least.values(), default=0.0)
    return [name for name, time in least.items() if time <= HOPELESS * best]


def _fastest(
    label: str,
    choices: Sequence[Choice],
    times: Mapping[str, list[float]],
    problems: Mapping[str, str],
) -> Tuned:
    timings = {n: statistics.median(own) for n, own in times.items() if own and n not in problems}
    listed = tuple(f"{name}: {reason}" for name, reason in problems.items())
    if not timings:
        return Tuned(label, choices[0].name, choices[0].microseconds, False, {}, listed)
    most = max(len(times[name]) for name in timings)
    finalists = [name for name in timings if len(times[name]) == most]
    best = min(finalists, key=lambda name: timings[name])
    return Tuned(label, best, timings[best], True, timings, listed)
