# SPDX-License-Identifier: Apache-2.0
"""Makes the dashboards' JSON: `make dashboards` writes `dashboards/grafana/`.

A dashboard is a module, or a module and one for each of its larger rows. `panels` draws, `promql`
writes queries, `palette` holds the colours.
"""
