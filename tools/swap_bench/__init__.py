"""What `tools/bench_swap.py` is made of: drops, the three cases, many swaps, overload."""
