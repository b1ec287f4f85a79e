"""What `tools/bench_calibrate.py` is made of: cases, peers, their environments, scores, cost."""
