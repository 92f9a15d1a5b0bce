# syntax=docker/dockerfile:1
# Nothing but the two programs and the certificate authorities, for amd64 and arm64:
#   docker buildx build --platform linux/amd64,linux/arm64 --tag registry.example/parameter-mirror:0.2.0 --push .

#
# A tag moves. To build what somebody has looked at, name the image by the digest that you have verified (docs/project/releasing.md):
#   --build-arg BUILD_IMAGE=rust:1.95-bookworm@sha256:...
ARG BUILD_IMAGE=rust:1.95-bookworm

# The compiler runs on the builder's own platform and compiles for the target's: an emulated compiler takes hours.
FROM --platform=$BUILDPLATFORM ${BUILD_IMAGE} AS build
ARG BUILDARCH
ARG TARGETARCH
WORKDIR /src

# cmake and a C compiler build aws-lc, the crypto provider.
RUN set -eu; \
    case "$TARGETARCH" in \
      amd64) triple=x86_64-unknown-linux-gnu; compiler=gcc-x86-64-linux-gnu ;; \
      arm64) triple=aarch64-unknown-linux-gnu; compiler=gcc-aarch64-linux-gnu ;; \
      *) echo "there is no build for $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    echo "$triple" > /triple; \
    packages="cmake ca-certificates"; \
    if [ "$BUILDARCH" != "$TARGETARCH" ]; then packages="$packages $compiler libc6-dev-$TARGETARCH-cross"; fi; \
    apt-get update; \
    apt-get install --yes --no-install-recommends $packages; \
    rustup target add "$triple"

COPY . .

# Linked with libc: there is none in the image. Names are still resolved as resolv.conf and /etc/hosts say.
ENV RUSTFLAGS="-C target-feature=+crt-static" \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CC_x86_64_unknown_linux_gnu=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=target-$TARGETARCH \
    set -eu; \
    # jemalloc runs on pages of at most the size that it was built for, and arm64 has kernels with 64 KiB.
    if [ "$TARGETARCH" = arm64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi; \
    build() { cargo build --locked --profile dist -p "$1" --bin "$1" --target "$(cat /triple)"; }; \
    build parameter-mirror; \
    build parameter-mirror-reader; \
    built="target/$(cat /triple)/dist"; \
    hack/rootfs /rootfs "$built/parameter-mirror" "$built/parameter-mirror-reader"

FROM scratch
COPY --from=build /rootfs /
# Numeric, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["/parameter-mirror"]
CMD ["run"]
