# SPDX-License-Identifier: Apache-2.0
"""How commands print: tables, bars, screens."""
