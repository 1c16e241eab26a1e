# SPDX-License-Identifier: Apache-2.0
"""Pictures of the dashboards: `make dashboard-pictures`, see docs/dashboards.md.

`day` writes what clients do, `virtual` lets the real exporter watch it in virtual time, `history`
puts that into a real Prometheus, `draw` lets Grafana's own components draw it in a browser.
"""
