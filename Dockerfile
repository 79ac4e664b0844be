# The daemon alone in an image: a static binary, the certificates that it trusts, and a directory for its files.
# Usage: docs/operations.md, "Container".
FROM rust:1-alpine AS build
RUN apk add --no-cache ca-certificates musl-dev
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY src src
RUN cargo build --release --locked --bin codex-proxy
RUN mkdir -m 700 /data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/codex-proxy /codex-proxy
COPY --from=build --chown=65532:65532 /data /data
# Nobody in particular, and not root.
USER 65532:65532
ENV CODEX_PROXY_HOME=/data
VOLUME /data
EXPOSE 8787
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/codex-proxy", "status", "--daemon"]
ENTRYPOINT ["/codex-proxy"]
# Other containers and machines reach it, so that it insists on a client key.
CMD ["serve", "--host", "0.0.0.0"]
