# bestserve for serving: no torch, no compiler, not root.
#
#   docker build --target serve -t bestserve .
#   docker run --rm -p 8000:8000 bestserve                                          the demo: an emulated fleet, nothing else needed
#   docker run --rm -p 8000:8000 -v "$PWD/bestserve.yaml:/etc/bestserve/bestserve.yaml:ro" bestserve \
#       serve --config /etc/bestserve/bestserve.yaml --host 0.0.0.0

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY proxy proxy
COPY policy policy
COPY profiles profiles
RUN python -m venv /opt/bestserve && /opt/bestserve/bin/pip install --no-cache-dir .

FROM python:3.12-slim AS serve
RUN useradd --system --uid 10001 --create-home bestserve
COPY --from=build /opt/bestserve /opt/bestserve
ENV PATH=/opt/bestserve/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER bestserve
WORKDIR /home/bestserve
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["bestserve"]
CMD ["demo", "--host", "0.0.0.0"]
