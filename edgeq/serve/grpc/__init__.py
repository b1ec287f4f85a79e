"""The Open Inference Protocol over gRPC: a skin over `serve.calls`."""
