# The image of the pipeline, the watch, the console and the MLflow server. Build from the project's root:
#   docker build --file infra/images/pipeline.Dockerfile --tag buckler-pipeline .
# A tag can be moved to another image; a digest cannot. Before a release, look it up and build with it:
#   docker buildx imagetools inspect --format '{{.Manifest.Digest}}' python:3.11-slim-bookworm
#   docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:... --file ...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY pyproject.toml requirements.lock ./
RUN sed -n '/^uv==/,/^    #/p' requirements.lock > uv.lock \
 && python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement uv.lock \
 && uv venv /opt/venv \
 && uv pip install --python /opt/venv/bin/python --compile-bytecode --require-hashes \
      --requirements pyproject.toml --extra console --extra cpu --extra pkcs11 --extra postgres --extra train \
      --constraints requirements.lock

FROM ${PYTHON_IMAGE}
# DVC needs git, and runs record the commit.
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends git && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin buckler \
 && install --directory --owner buckler --group buckler --mode 0700 /project /project/.buckler /var/lib/mlflow \
 && install --directory --owner buckler --group buckler --mode 0750 /var/lib/buckler-keys \
 && install --directory --owner buckler --group buckler --mode 0700 /var/lib/buckler-traffic
COPY --from=build /opt/venv /opt/venv
COPY src/buckler /app/src/buckler
COPY pipelines /app/pipelines
COPY services /app/services
COPY infra/images/buckler /usr/local/bin/buckler
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app/src:/app \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    BUCKLER_API_KEYS=/var/lib/buckler-keys/api.json \
    BUCKLER_TRAFFIC_URL=sqlite:////var/lib/buckler-traffic/traffic.db \
    DVC_NO_ANALYTICS=1 \
    MLFLOW_DISABLE_TELEMETRY=true
USER 10001
WORKDIR /project
CMD ["buckler", "--help"]
