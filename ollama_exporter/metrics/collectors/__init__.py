# SPDX-License-Identifier: Apache-2.0
"""Collectors: they make families from state at each scrape."""
