"""What the ONNX scripts share: sessions bound to the job's threads, and samples by input name."""

from __future__ import annotations

import numpy as np
import onnxruntime
from measured import Job


def limit_threads(threads: int) -> None:
    """Let every session that is made from now on, by whatever package, use so many threads."""
    options = onnxruntime.SessionOptions

    class Limited(options):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.intra_op_num_threads = threads
            self.inter_op_num_threads = 1
            self.log_severity_level = 4

    onnxruntime.SessionOptions = Limited


def open_session(job: Job) -> onnxruntime.InferenceSession:
    """Open the model on the CPU with the job's threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    return onnxruntime.InferenceSession(str(job.model), options, providers=["CPUExecutionProvider"])


def named_frames(job: Job) -> list[dict[str, np.ndarray]]:
    """Return the samples as the session takes them."""
    names = [tensor.name for tensor in open_session(job).get_inputs()]
    return [dict(zip(names, frame, strict=True)) for frame in job.frames()]
