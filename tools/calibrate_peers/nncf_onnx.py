"""NNCF: float .onnx -> INT8 QDQ .onnx; preset MIXED (weights symmetric, activations affine).

With fast bias correction, its default. The slow one fails on ONNX models ("Duplicate
definition-site"), so that there is no second setting.
"""

from __future__ import annotations

import logging

import nncf
import onnx
from measured import Job, Notes, main
from onnx_sessions import limit_threads, named_frames


def quantize(job: Job, notes: Notes) -> None:
    limit_threads(job.threads)
    nncf.set_log_level(logging.ERROR)
    frames = named_frames(job)
    made = nncf.quantize(
        onnx.load(str(job.model)),
        nncf.Dataset(frames),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(frames),
        fast_bias_correction=True,
    )
    onnx.save(made, str(job.out))


main(quantize, "nncf", "onnx", "onnxruntime")
