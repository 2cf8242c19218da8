# The image of the service: the classifier without code for training, attacks or validation, and without TensorFlow. A
# model that Keras serves (train.defence: randomised) also needs `--extra cpu`.
# Build from the project's root:
#   docker build --file infra/images/service.Dockerfile --tag buckler-service .
# A tag can be moved to another image; a digest cannot. Before a release, look it up and build with it:
#   docker buildx imagetools inspect --format '{{.Manifest.Digest}}' python:3.11-slim-bookworm
#   docker build --build-arg PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:... --file ...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# The lock pins every version and hash; the extras select the installed packages.
RUN sed -n '/^uv==/,/^    #/p' requirements.lock > uv.lock \
 && python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement uv.lock \
 && uv venv /opt/venv \
 && uv pip install --python /opt/venv/bin/python --compile-bytecode --require-hashes \
      --requirements pyproject.toml --extra serve --extra pkcs11 --extra postgres --constraints requirements.lock

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin buckler \
 && install --directory --owner buckler --group buckler --mode 0700 /var/lib/buckler \
 && install --directory --owner buckler --group buckler --mode 0750 /var/lib/buckler-keys \
 && install --directory --owner buckler --group buckler --mode 0700 /var/lib/buckler-traffic
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY src/buckler/__init__.py src/buckler/error_codes.py src/buckler/errors.py src/buckler/findings.py \
  src/buckler/params.py src/buckler/radius.py src/buckler/
COPY src/buckler/state src/buckler/state
COPY src/buckler/compute src/buckler/compute
COPY src/buckler/measurements src/buckler/measurements
COPY src/buckler/trust src/buckler/trust
COPY src/buckler/modality src/buckler/modality
COPY src/buckler/models src/buckler/models
COPY src/buckler/detection src/buckler/detection
COPY src/buckler/serving src/buckler/serving
COPY services/__init__.py services/
COPY services/classifier services/classifier
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app/src:/app \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    BENTOML_HOME=/var/lib/buckler/bentoml \
    BENTOML_DO_NOT_TRACK=True \
    MLFLOW_DISABLE_TELEMETRY=true \
    BUCKLER_HOST=0.0.0.0 \
    BUCKLER_API_KEYS=/var/lib/buckler-keys/api.json \
    BUCKLER_AUDIT_LOG=/var/lib/buckler/audit/audit.jsonl \
    BUCKLER_RELEASES_DIR=/var/lib/buckler/releases \
    BUCKLER_TRAFFIC_URL=sqlite:////var/lib/buckler-traffic/traffic.db \
    BUCKLER_VERDICT_KEY=/etc/buckler/verdict.pub
USER 10001
VOLUME /var/lib/buckler
EXPOSE 3000
HEALTHCHECK --interval=15s --timeout=5s --start-period=90s CMD \
  ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:3000/readyz', timeout=4)"]
CMD ["python", "-m", "services.classifier", "--port", "3000"]
