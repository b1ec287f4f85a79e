"""Graph ops -> the nodes that compute them bit for bit as the CPU engine does."""
