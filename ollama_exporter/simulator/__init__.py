# SPDX-License-Identifier: Apache-2.0
"""A faithful Ollama server: pure scheduler, HTTP front on real sockets, faults, workloads."""
