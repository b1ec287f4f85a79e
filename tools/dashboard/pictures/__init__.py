"""Draws the dashboard's pictures for the README: `python -m tools.dashboard.pictures --minutes 6`.

A real daemon with traffic, a real Prometheus that scrapes it, and Grafana's own panels: the library
@grafana/ui, which Grafana's panels are made of, draws each panel of configs/grafana/edgeq.json from
what Prometheus answers. It is not Grafana itself (no menus, no server); annotations are drawn by
page.jsx. Needs node, npm, Chromium and Pillow; the library goes to .tools/grafana-panels.
"""
