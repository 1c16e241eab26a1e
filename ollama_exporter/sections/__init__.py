# SPDX-License-Identifier: Apache-2.0
"""The structured sections of the configuration file: values, and what each key accepts. Pure."""
