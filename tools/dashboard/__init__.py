"""Makes configs/grafana/edgeq.json, Grafana's dashboard of a fleet of edgeq boxes.

`python -m tools.dashboard` writes it anew; it needs nothing but Python. The queries are PromQL on
what `edgeq/observe/metrics.py` declares: rows.py asks what an on-call person asks, panels.py knows
Grafana's JSON, layout.py puts them in their places.
"""
