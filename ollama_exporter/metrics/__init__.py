# SPDX-License-Identifier: Apache-2.0
"""The metrics: catalog, instruments, collectors, exposition."""
