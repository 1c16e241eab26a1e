# SPDX-License-Identifier: Apache-2.0
"""The reverse proxy. It passes bytes on unchanged and makes an Observation of each request.

server.py listens and enforces timeouts. client_connection.py is one client's connection,
forwarding.py one request with its response, upstream_pool.py the connections to Ollama. headers.py
decides what goes into request and response heads; credentials.py watches tokens and certificates.
"""
