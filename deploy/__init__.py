# SPDX-License-Identifier: Apache-2.0
"""What runs the exporter beside other things."""
