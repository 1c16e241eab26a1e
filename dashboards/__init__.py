# SPDX-License-Identifier: Apache-2.0
"""Dashboards and rules: what is shipped lies beside what makes it."""
