"""A Program -> a Plan: fused, laid out in memory, a kernel chosen for each node."""
