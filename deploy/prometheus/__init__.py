# SPDX-License-Identifier: Apache-2.0
"""Configurations to copy from, and the rules as a manifest for a Prometheus Operator."""
