# SPDX-License-Identifier: Apache-2.0
"""Tools that generate documentation; not part of the wheel."""
