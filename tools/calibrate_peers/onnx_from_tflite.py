"""tf2onnx: float .tflite -> float .onnx with the same inputs, outputs and layout."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tf2onnx.convert  # brings TensorFlow, which it needs to read the file
from measured import Job, Notes, main

OPSET = 17


def convert(job: Job, notes: Notes) -> None:
    tf2onnx.convert.from_tflite(str(job.model), opset=OPSET, output_path=str(job.out))


main(convert, "tf2onnx", "tensorflow-cpu", "onnx")
