"""An INT8 .tflite -> CUDA C kernels for one GPU -> an Engine that replays them as one graph."""
