"""Numbers and pictures for people and Prometheus."""
