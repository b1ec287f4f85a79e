"""Kernels -> source -> cubins, kept by their content."""
