# SPDX-License-Identifier: Apache-2.0
"""Makes the dashboards' JSON: `make dashboards` writes `dashboards/grafana/`.

One file for each dashboard; `panels` draws, `promql` asks, `palette` gives meanings their colours.
"""
