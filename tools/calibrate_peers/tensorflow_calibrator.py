"""TensorFlow's flatbuffer calibrator: float .tflite + samples -> INT8 .tflite, float in and out.

It is what `TFLiteConverter` with a representative dataset runs after its conversion: min/max of
each activation, weights per channel, biases INT32. It takes a .tflite; the converter does not.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from measured import Job, Notes, main
from tensorflow.lite.python.optimize.calibrator import Calibrator


def quantize(job: Job, notes: Notes) -> None:
    frames = job.frames()
    content = Calibrator(job.model.read_bytes()).calibrate_and_quantize(
        lambda: iter(frames),
        tf.float32,
        tf.float32,
        allow_float=False,
        activations_type=tf.int8,
        bias_type=tf.int32,
        resize_input=False,
        disable_per_channel=False,
    )
    job.out.write_bytes(content)


main(quantize, "tensorflow-cpu")
