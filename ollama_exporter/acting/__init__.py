# SPDX-License-Identifier: Apache-2.0
"""What is done to a server, never to its harm: no reload, no life shortened, nobody resurrected."""
