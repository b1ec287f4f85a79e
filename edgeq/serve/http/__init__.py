"""The Open Inference Protocol over HTTP/1.1: bytes of connections <-> calls."""
