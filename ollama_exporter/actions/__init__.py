# SPDX-License-Identifier: Apache-2.0
"""What the exporter does to its server: nothing, unless the operator asked for it."""
