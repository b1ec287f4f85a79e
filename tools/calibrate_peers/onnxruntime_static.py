"""onnxruntime's quantize_static: float .onnx -> INT8 QDQ .onnx; minmax, percentile or entropy.

Weights per channel and symmetric, activations affine INT8: its defaults but for `per_channel`.
Its "entropy" keeps 128 bins for 128 levels, so that there is one candidate: the maximum.
"""

from __future__ import annotations

from measured import Job, Notes, main
from onnx_sessions import limit_threads, named_frames
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


class Frames(CalibrationDataReader):
    """The samples, one after the other."""

    def __init__(self, frames: list[dict]) -> None:
        self._left = iter(frames)

    def get_next(self) -> dict | None:
        return next(self._left, None)


def quantize(job: Job, notes: Notes) -> None:
    limit_threads(job.threads)
    frames = named_frames(job)
    prepared = job.out.with_suffix(".prepared.onnx")
    quant_pre_process(str(job.model), str(prepared))
    quantize_static(
        str(prepared),
        str(job.out),
        Frames(frames),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        calibrate_method=METHODS[job.setting],
    )
    prepared.unlink()


main(quantize, "onnxruntime", "onnx")
