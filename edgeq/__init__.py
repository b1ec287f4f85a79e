"""edgeq: a float .tflite model dropped on an edge box -> a verified INT8 engine that serves."""

__version__ = "0.1.0"
