"""What `tools/bench_serve.py` is made of: workloads, servers, clients, rounds, the table."""
