# bestserve in a container: not root, no compiler (one builds, and stays behind); every package that serving needs is in requirements/serve.lock.
#
#   docker build --target serve -t bestserve .             more: docs/operating.md, "In a container"
#   docker run --rm -p 8000:8000 bestserve                 the demo: an emulated fleet, nothing else needed
#   docker run --rm -p 8000:8000 -v "$PWD/bestserve.yaml:/etc/bestserve/bestserve.yaml:ro" --stop-timeout 130 bestserve \
#       serve --config /etc/bestserve/bestserve.yaml --host 0.0.0.0
#
#   docker build --target train --build-arg TORCH_INDEX=… -t bestserve-train .      with torch; without the argument, the default index's

ARG BASE=python:3.12-slim

FROM ${BASE} AS build
ARG PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements requirements
RUN python -m venv --without-pip /opt/bestserve \
    && pip --python /opt/bestserve/bin/python install --require-hashes --only-binary :all: -r requirements/serve.lock
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary :all: -r requirements/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
COPY policy policy
COPY profiles profiles
# the proxy would read prompts and decide in plain Python where compiling had failed: an image is not built that way
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && pip --python /opt/bestserve/bin/python install --no-deps --no-index /dist/*.whl \
    && /opt/bestserve/bin/python -c 'import bestserve.policy._reader, bestserve.policy._encode, bestserve.policy._actor'

# torch comes as one version for many platforms, each with an index and with hashes of its own: a version is pinned, hashes are not
FROM build AS build-train
ARG TORCH_INDEX
RUN pip --python /opt/bestserve/bin/python install --only-binary :all: ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(echo /dist/*.whl)[train]"

FROM ${BASE} AS base
RUN groupadd --gid 10001 bestserve && useradd --uid 10001 --gid 10001 --home-dir /var/lib/bestserve --create-home bestserve
ENV PATH=/opt/bestserve/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/bestserve
# a number, so that Kubernetes can see that it is not root
USER 10001:10001
ENTRYPOINT ["bestserve"]

FROM base AS train
COPY --from=build-train /opt/bestserve /opt/bestserve
CMD ["--help"]

FROM base AS serve
COPY --from=build /opt/bestserve /opt/bestserve
EXPOSE 8000
STOPSIGNAL SIGTERM
# a bare socket: an HTTP library takes a second to import where the processor is busy
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-ISc", "import os, socket; \
    s = socket.create_connection(('127.0.0.1', int(os.environ.get('BESTSERVE_PORT', 8000))), 4); \
    s.sendall(b'GET /health HTTP/1.0\\r\\n\\r\\n'); \
    assert b' 200 ' in s.recv(64)"]
CMD ["demo", "--host", "0.0.0.0"]
