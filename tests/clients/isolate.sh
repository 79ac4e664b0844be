#!/usr/bin/env bash
# Runs a command in a network namespace with only loopback, to prove that it needs no other network.
# If the system doesn't allow that, it prints a note and runs the command without isolation.
# Usage: isolate.sh COMMAND [ARGUMENT…]
set -euo pipefail

raise_loopback() {
    python3 - <<'PYTHON'
import fcntl, socket, struct

GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    request = struct.pack("16sH14x", b"lo", 0)
    name, flags = struct.unpack("16sH14x", fcntl.ioctl(control, GET_FLAGS, request))
    fcntl.ioctl(control, SET_FLAGS, struct.pack("16sH14x", name, flags | UP))
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname(), timeout=2).close()
PYTHON
}

if [[ "${1:-}" == --inside ]]; then
    shift
    raise_loopback
    exec "$@"
fi

for flags in '--net' '--user --map-root-user --net'; do
    # shellcheck disable=SC2086 # several flags in one word
    if unshare $flags -- "$0" --inside true 2>/dev/null; then
        echo 'clients run in a network of their own'
        exec unshare $flags -- "$0" --inside "$@"
    fi
done
echo 'clients run in the network of this machine: one of their own cannot be had here'
exec "$@"
