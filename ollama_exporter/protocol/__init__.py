# SPDX-License-Identifier: Apache-2.0
"""What Ollama says on the wire: decoding, names, keep-alive forms, and the client of one server."""
