"""What a build is asked for -> what it made, in the words of `edgeq build --json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgeq.build.difference import Comparison
from edgeq.build.difference import as_dict as comparison_dict
from edgeq.bundle import Bundle
from edgeq.calibrate.collect import Dropped
from edgeq.calibrate.convergence import Convergence
from edgeq.calibrate.representative import SampleWarning
from edgeq.engines.latency import Latency
from edgeq.explain.explanation import Explanation
from edgeq.quantize.choose import Trial
from edgeq.quantize.convert import FloatOp
from edgeq.verify import Verdict, VerifyOptions

# Sooner costs fidelity: stopping at 32 of 64 VWW samples, 1 dB; at 128 of 204 of KWS, nothing.
CONVERGENCE = Convergence(tolerance=0.05, first=64)


@dataclass(frozen=True)
class BuildOptions:
    """What a build is asked for."""

    name: str = "model"
    backend: str = "auto"
    target: str = ""  # of a GPU on another box, e.g. 'sm_87'; "": this box
    method: str = "auto"
    threads: int = 1
    held_out_ratio: float = 0.25
    golden: int = 4
    refine: bool = True
    convergence: Convergence = CONVERGENCE
    tune: bool = True  # time the GPU's kernels on the device
    mixed_precision: bool = True  # keep ops float where the gate refuses the model without
    verify: VerifyOptions = field(default_factory=VerifyOptions)


@dataclass(frozen=True)
class BuildResult:
    """What a build made."""

    bundle: Bundle
    backend: str
    details: Mapping[str, Any]  # what the backend says of its engine: target, tuning, CPU ops
    method: str
    tensors: int
    samples: int
    dropped: tuple[Dropped, ...]
    warnings: tuple[SampleWarning, ...]  # why the samples may not be like those in the field
    float_ops: tuple[FloatOp, ...]
    candidates: Mapping[str, float]  # method -> SQNR in dB, where there was a choice
    trials: tuple[Trial, ...]  # of other ranges for single tensors
    refined: tuple[str, ...]  # the refinements that were kept
    refinements: Mapping[str, float]  # those tried -> SQNR in dB, by the same samples
    refined_db: float  # what they are worth on the samples that chose the method
    verdict: Verdict
    comparison: Comparison | None  # with the engine that serves now
    latency: tuple[Latency, ...]
    stages: Mapping[str, float]
    explanation: Explanation

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON result."""
        return {
            "bundle": str(self.bundle.directory),
            "backend": self.backend,
            "engine": dict(self.details),
            "method": self.method,
            "tensors": self.tensors,
            "samples": self.samples,
            "dropped": [asdict(sample) for sample in self.dropped],
            "warnings": [asdict(warning) for warning in self.warnings],
            "float_ops": [asdict(op) for op in self.float_ops],
            "candidates": dict(self.candidates),
            "trials": [asdict(trial) for trial in self.trials],
            "refined": list(self.refined),
            "refinements": dict(self.refinements),
            "refined_db": self.refined_db,
            "verdict": self.verdict.as_dict(),
            "comparison": comparison_dict(self.comparison),
            "latency": [asdict(figure) for figure in self.latency],
            "stages": dict(self.stages),
            "explanation": self.explanation.as_dict(),
        }
