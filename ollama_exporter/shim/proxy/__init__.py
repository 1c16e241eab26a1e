# SPDX-License-Identifier: Apache-2.0
"""The reverse proxy: bytes in are bytes out, and an Observation is made of what passed.

server.py listens and bounds; downstream.py is a client's connection; relay.py one request and its
answer on their way; upstream.py the connections to the server; heads.py what is sent for a head.
"""
