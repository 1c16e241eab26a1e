# SPDX-License-Identifier: Apache-2.0
# docker build --tag ollama-exporter .
# docker run --publish 11487:11487 --env OLLAMA_HOST=http://host.docker.internal:11434 ollama-exporter
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/ollama-exporter
COPY . /src
RUN /opt/ollama-exporter/bin/python -m pip install --quiet "/src[fast]" \
    && /opt/ollama-exporter/bin/python -m pip uninstall --quiet --yes pip

# Same Python and distribution as above: a virtual environment is not portable between them.
FROM python:${PYTHON}-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ollama_exporter" \
      org.opencontainers.image.description="Prometheus exporter for Ollama: what is loaded, until when, what left memory and why" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/ollama-exporter /opt/ollama-exporter
# The image runs with a read-only root: nothing is written next to the code.
ENV PATH="/opt/ollama-exporter/bin:${PATH}" PYTHONDONTWRITEBYTECODE=1
# A number, because Kubernetes' runAsNonRoot cannot judge a name. It owns no file.
USER 65532:65532
EXPOSE 11487
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["ollama-exporter", "healthcheck"]
ENTRYPOINT ["ollama-exporter"]
