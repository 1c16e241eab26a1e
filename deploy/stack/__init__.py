# SPDX-License-Identifier: Apache-2.0
"""Everything on this machine without containers: `make stack`."""
