"""The GPU of this box: whether it is there, its context, its memory, its faults."""
