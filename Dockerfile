# The program `dht` alone, which runs as a user without rights: docs/running-a-node.md, "In a container".
#
#   docker build -t dht .
#   docker run -d --name dht -p 4222:4222/udp -p 4222:4222/tcp -v dht:/var/lib/dht dht
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS build
WORKDIR /source
COPY . .
# The caches stay from one build to the next, and are in no image.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --locked --release -p dht-cli \
    && strip -o /dht target/release/dht \
    && mkdir /state

# The C library, and no shell.
FROM gcr.io/distroless/cc-debian12
COPY --from=build /dht /usr/local/bin/dht
# A new volume begins as this folder: of the user that the program runs as, and of nobody else.
COPY --from=build --chown=10001:10001 --chmod=700 /state /var/lib/dht
USER 10001:10001
VOLUME /var/lib/dht
EXPOSE 4222/udp 4222/tcp
STOPSIGNAL SIGTERM
# Whether it is well, as it says through the socket in its folder.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["/usr/local/bin/dht", "status", "--healthy", "--data-dir", "/var/lib/dht"]
ENTRYPOINT ["/usr/local/bin/dht", "node", "--data-dir", "/var/lib/dht", \
    "--listen", "/ip4/0.0.0.0/udp/4222", "--listen", "/ip4/0.0.0.0/tcp/4222"]
