# SPDX-License-Identifier: Apache-2.0
"""The runners' own HTTP ports: slots, context and tokens of every model, without a proxy.

Since 0.30 each GGUF runner is a stock `llama-server` on 127.0.0.1. It answers `GET /slots`, and
with `LLAMA_ARG_ENDPOINT_METRICS=1` in Ollama's environment `GET /metrics`. Older runners and those
of MLX answer neither.
"""
