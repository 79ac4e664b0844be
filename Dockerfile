# A minimal image: a static binary, CA certificates, and a data directory.
# Usage: docs/operations.md, "Container".
FROM rust:1-alpine AS build
RUN apk add --no-cache ca-certificates musl-dev
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY src src
RUN cargo build --profile dist --locked --bin codex-proxy
RUN mkdir -m 700 /data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/dist/codex-proxy /codex-proxy
COPY --from=build --chown=65532:65532 /data /data
# An unprivileged user.
USER 65532:65532
ENV CODEX_PROXY_HOME=/data
VOLUME /data
EXPOSE 8787
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/codex-proxy", "status", "--daemon"]
ENTRYPOINT ["/codex-proxy"]
# Other containers and machines can connect, so a client key is required.
CMD ["serve", "--host", "0.0.0.0"]
