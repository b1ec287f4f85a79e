"""Requests -> Engine: the Open Inference Protocol, thin skins over one core."""
