"""What `tools/bench_gpu.py` and `tools/gpu_check` are made of: models, contestants, tables."""
