# SPDX-License-Identifier: Apache-2.0
"""The rules that name the reason of an unload."""
