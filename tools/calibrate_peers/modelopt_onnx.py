"""NVIDIA ModelOpt's ONNX quantizer: float .onnx -> INT8 QDQ .onnx; max or entropy (its default).

Symmetric weights and activations. The rest of the graph stays float32, for the CPU has no float16.
"""

from __future__ import annotations

import numpy as np
from measured import Job, Notes, main
from modelopt.onnx.quantization import quantize as quantize_onnx
from onnx_sessions import limit_threads, named_frames


class Frames:
    """The samples, one after the other, as often as they are asked for."""

    def __init__(self, frames: list[dict[str, np.ndarray]]) -> None:
        self._frames = frames
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)

    def get_first(self) -> dict[str, np.ndarray]:
        return self._frames[0]

    def rewind(self) -> None:
        self._left = iter(self._frames)


def quantize(job: Job, notes: Notes) -> None:
    limit_threads(job.threads)
    quantize_onnx(
        onnx_path=str(job.model),
        quantize_mode="int8",
        calibration_method=job.setting,
        calibration_data_reader=Frames(named_frames(job)),
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(job.out),
        log_level="ERROR",
    )


main(quantize, "nvidia-modelopt", "torch", "onnx", "onnxruntime-gpu")
