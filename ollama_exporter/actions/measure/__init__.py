# SPDX-License-Identifier: Apache-2.0
"""The command `measure`: cold calls against warm ones."""
