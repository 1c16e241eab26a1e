# SPDX-License-Identifier: Apache-2.0
"""Every metric family: name, type, labels, help and buckets."""
