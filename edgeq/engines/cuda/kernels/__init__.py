"""The kernels' templates, in CUDA C: `device.cuh` beneath all of them, one entry point a file."""
