# The images of shardlb: `balancer` and `server`, both from the same installation. `make build` brings the wheels of
# what it depends on into build/wheels, from where they are installed without any network; without them pip fetches.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS installation
RUN python3 -m venv --without-pip /opt/shardlb
# The wheels change rarely, the sources often: a layer each. setup.cfg stands here because wheels may match nothing.
COPY setup.cfg build/wheels/*.whl* /wheels/
RUN set -e; cd /wheels; \
    if ls *.whl >/dev/null 2>&1; then \
        python3 -m pip --python /opt/shardlb/bin/python install --no-cache-dir --no-index --no-deps \
            $(ls *.whl | grep -v ^setuptools); \
    fi
COPY setup.cfg pyproject.toml README.md LICENSE /source/
COPY raftlog /source/raftlog
COPY dbnode /source/dbnode
COPY lbnode /source/lbnode
COPY twisted /source/twisted
# The plugin cache is made here: nobody may write to it later.
RUN set -e; cd /source; \
    if ls /wheels/*.whl >/dev/null 2>&1; then from="--no-index --find-links /wheels"; else from=; fi; \
    python3 -m pip --python /opt/shardlb/bin/python install --no-cache-dir $from .; \
    cd /; /opt/shardlb/bin/twistd --help >/dev/null; rm -rf /source /wheels
# Whose image it is, so that it can be found and removed.
ARG PROJECT=shardlb
LABEL shardlb.project=${PROJECT}

FROM ${BASE_IMAGE} AS runtime
RUN groupadd --system --gid 10001 shardlb \
    && useradd --system --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin shardlb \
    && install -d -o shardlb -g shardlb -m 0700 /data
COPY --from=installation /opt/shardlb /opt/shardlb
ENV PATH=/opt/shardlb/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ARG PROJECT=shardlb
LABEL shardlb.project=${PROJECT}
WORKDIR /data
USER 10001:10001
# twistd as process 1 hears SIGTERM and ends in order; it starts no process that it would have to wait for.
STOPSIGNAL SIGTERM

FROM runtime AS server
EXPOSE 5000 5001
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "-m", "dbnode.healthcheck", "http://127.0.0.1:5000/heartbeat"]
ENTRYPOINT ["twistd", "--nodaemon", "--pidfile=", "dbnode"]
CMD ["--data-dir=/data", "--http=tcp:5000"]

FROM runtime AS balancer
ENV SHARDLB_PORT=tcp:5000 SHARDLB_DATA_DIR=/data SHARDLB_LAUNCHER=docker
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD ["python", "-m", "dbnode.healthcheck", "http://127.0.0.1:5000/healthz"]
ENTRYPOINT ["python", "-m", "lbnode.container"]
