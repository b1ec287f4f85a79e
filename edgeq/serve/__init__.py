"""Requests -> Engine: the Open Inference Protocol over HTTP."""
