# The bridge and the sdk in one image: `ajc-bridge run` by default, `python -m ajc module:app` for a responder.
FROM python:3.13-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# the locked requirements change seldom: a layer of their own
COPY requirements/bridge.txt /src/requirements/bridge.txt
RUN pip install --require-hashes --requirement /src/requirements/bridge.txt

COPY sdk /src/sdk
COPY bridge /src/bridge
RUN pip install --no-build-isolation --no-deps --no-index /src/sdk /src/bridge \
    && useradd --system --no-create-home --uid 10001 ajc

USER ajc
WORKDIR /app
EXPOSE 8088
STOPSIGNAL SIGTERM

# outside the container's own loopback, so that the probes and the metrics can be reached
ENV AJC_HTTP__LISTEN=0.0.0.0:8088
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8088/readyz', timeout=2)"]

ENTRYPOINT ["ajc-bridge"]
CMD ["run"]
