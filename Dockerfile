# The server with PyTorch, and with other engines where they are asked for. It expects a model repository at /models and runs as an ordinary user:
#
#   docker build --tag maas .
#   docker run --init --publish 127.0.0.1:8000:8000 --volume "$PWD/models:/models:ro" maas

FROM python:3.11-slim AS build

# Where torch alone comes from: empty for the index that pip is configured with, which on a plain machine
# gives the CUDA build. For an image without CUDA, name PyTorch's index of CPU builds:
#   docker build --build-arg TORCH_INDEX_URL=… .
ARG TORCH_INDEX_URL=""
# The extras of pyproject.toml, which are the engines: 80 MB more with ONNX Runtime, 180 MB with OpenVINO. Without `torch` the
# image is small, and serves no PyTorch model.
#   docker build --build-arg EXTRAS=torch,onnxruntime,openvino .
ARG EXTRAS="torch"

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1

WORKDIR /build
RUN python -m venv /opt/maas
COPY constraints.txt .
# Alone and first: it is most of the image and changes least.
RUN case ",${EXTRAS}," in \
      *,torch,*) PIP_INDEX_URL="${TORCH_INDEX_URL}" \
        /opt/maas/bin/pip install --no-deps --constraint constraints.txt torch ;; \
    esac
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/maas/bin/pip install --constraint constraints.txt ".[server,${EXTRAS}]"


FROM python:3.11-slim

RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin maas \
    && install --directory --owner maas --group maas /models
COPY --from=build /opt/maas /opt/maas
COPY configs/production.yaml /etc/maas/production.yaml

ENV PATH="/opt/maas/bin:$PATH" \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER 10001:10001
WORKDIR /models
VOLUME /models
EXPOSE 8000
STOPSIGNAL SIGTERM

# Live, not ready: a server that has no model READY yet is not to be killed. `http.client` asks no proxy.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=2); c.request('GET', '/v2/health/live'); raise SystemExit(c.getresponse().status != 200)"]

ENTRYPOINT ["maas"]
CMD ["serve", "--config", "/etc/maas/production.yaml"]
