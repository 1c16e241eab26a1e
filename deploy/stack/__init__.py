# SPDX-License-Identifier: Apache-2.0
"""The whole setup on one machine, without containers: `make stack`."""
