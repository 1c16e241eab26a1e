# SPDX-License-Identifier: Apache-2.0
"""The configuration: one row per setting, where values come from, what a reload may change."""
