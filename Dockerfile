# Postern's images, one target each: control-plane, dispatcher, agent, cli, client.
#
#   docker build --target agent -t postern-agent .
#
# Written for the classic builder as well as for BuildKit. DEBIAN and RUST name the base images, for
# mirrors; both must be of the same Debian release.
ARG DEBIAN=debian:bookworm-slim
ARG RUST=rust:1.95-bookworm

# Stage: build. Compiles every program once; the other stages take one each.
FROM ${RUST} AS build
WORKDIR /src
COPY . .
# The image's own toolchain is the one that rust-toolchain.toml pins: nothing is to be fetched for it.
RUN RUSTUP_TOOLCHAIN=$(rustup toolchain list | sed -n '1s/ .*//p') \
    cargo build --release --locked --bins \
        -p postern-control-plane -p postern-dispatcher -p postern-agent -p postern-cli \
    && mkdir /out \
    && for program in postern postern-control-plane postern-dispatcher postern-agent; do \
        strip --strip-debug -o "/out/$program" "target/release/$program" || exit 1; \
    done

# Stage: runtime. What each image is made of: root certificates, and wget for the healthchecks.
FROM ${DEBIAN} AS runtime
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates wget \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
ENV NO_COLOR=1

# Each program has an account of its own. Of the control plane's two directories only the second is for
# others to see: the authority's key is in the first.
FROM runtime AS control-plane
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin postern \
    && install -d -o postern -g postern -m 700 /var/lib/postern/ca \
    && install -d -o postern -g postern -m 755 /var/lib/postern/published
COPY --from=build /out/postern-control-plane /usr/local/bin/
USER postern
EXPOSE 50051 50052 9101
HEALTHCHECK --interval=3s --timeout=3s --start-period=60s --retries=5 \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9101/readyz"]
ENTRYPOINT ["postern-control-plane"]

FROM runtime AS dispatcher
RUN useradd --uid 10002 --user-group --no-create-home --shell /usr/sbin/nologin postern \
    && install -d -o postern -g postern -m 700 /var/lib/postern
COPY --from=build /out/postern-dispatcher /usr/local/bin/
USER postern
EXPOSE 50061 50062 8090 9102
HEALTHCHECK --interval=3s --timeout=3s --start-period=60s --retries=5 \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9102/readyz"]
ENTRYPOINT ["postern-dispatcher"]

# Root, because a container's capabilities are root's: it needs NET_ADMIN for the addresses of network
# interfaces. Take the others away from it, as docker-compose.yml does.
FROM runtime AS agent
RUN install -d -m 700 /var/lib/postern-agent
COPY --from=build /out/postern-agent /usr/local/bin/
EXPOSE 53/tcp 53/udp 9103
HEALTHCHECK --interval=3s --timeout=3s --start-period=60s --retries=5 \
    CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:9103/readyz"]
ENTRYPOINT ["postern-agent"]

FROM runtime AS cli
RUN useradd --uid 10003 --user-group --create-home --shell /bin/bash postern
COPY --from=build /out/postern /usr/local/bin/
USER postern
WORKDIR /home/postern
ENTRYPOINT ["postern"]

# A workload in a consumer's VPC, to try things from by hand.
FROM runtime AS client
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl bind9-dnsutils iproute2 \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10004 --user-group --create-home --shell /bin/bash postern
USER postern
WORKDIR /home/postern
CMD ["sleep", "infinity"]
