# SPDX-License-Identifier: Apache-2.0
"""What answers at one address: one server or several, its clock, and how its connections end.

Pure: it is given what was answered and when.
"""
