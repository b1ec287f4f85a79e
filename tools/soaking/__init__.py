"""What `tools/soak.py` is made of: a plan by a seed, a daemon, clients, trouble, and invariants."""
