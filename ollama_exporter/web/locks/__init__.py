# SPDX-License-Identifier: Apache-2.0
"""TLS, passwords, header fields and a rate limit on our own port.

The file of `--web.config.file` has the format of Prometheus' exporter-toolkit, so one file serves
every exporter of a host. web_config.py reads it, server_tls.py, passwords.py and token_bucket.py
apply it, guard.py stands before the routes and admission.py before the proxy. locks.py has all of
it, and the files again when they change.
"""
