"""Captured inputs: the server writes them; calibrate, verify and drift read them."""
