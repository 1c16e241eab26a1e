# SPDX-License-Identifier: Apache-2.0
# docker build --build-arg REVISION=$(git rev-parse HEAD) --tag ollama-exporter .
# docker run --publish 11487:11487 --add-host=host.docker.internal:host-gateway \
#   --env OLLAMA_HOST=http://host.docker.internal:11434 ollama-exporter
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/ollama-exporter
COPY . /src
# The commit that `ollama_exporter_build_info` and the first line of the log show.
ARG REVISION=unknown
RUN sed -i "s/^REVISION: Final = \"unknown\"/REVISION: Final = \"${REVISION}\"/" \
        /src/ollama_exporter/version.py
RUN /opt/ollama-exporter/bin/python -m pip install --quiet "/src[fast]" \
    && /opt/ollama-exporter/bin/python -m pip uninstall --quiet --yes pip

# The same Python and distribution as above: a virtual environment cannot move between them.
FROM python:${PYTHON}-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ollama_exporter" \
      org.opencontainers.image.description="Prometheus exporter for Ollama: what is loaded, until when, what left memory and why" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/ollama-exporter /opt/ollama-exporter
# The image runs with a read-only root: Python must not write next to the code.
ENV PATH="/opt/ollama-exporter/bin:${PATH}" PYTHONDONTWRITEBYTECODE=1
# A number, because Kubernetes' runAsNonRoot cannot check a name. It owns no file.
USER 65532:65532
EXPOSE 11487
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["ollama-exporter", "healthcheck"]
ENTRYPOINT ["ollama-exporter"]
