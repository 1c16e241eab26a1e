# SPDX-License-Identifier: Apache-2.0
"""Keep-warm: models that stay resident, always or by a schedule."""
