"""Nets of well-known shapes with random weights, as INT8 .tflite: what the benchmarks run."""
