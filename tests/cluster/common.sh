# Shared by the scripts of the real cluster; sourced, not run.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/grace-test-cluster
TREE=$CACHE/root # Debian packages, unpacked; none is installed
BINARIES=$CACHE/kubernetes

say() { printf '>> %s\n' "$*"; }

die() {
    printf '\nThe test cluster stopped: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

# Run a noisy command with its output in a log; show the end of the log if it fails.
quietly() {
    local log=$1
    shift
    mkdir -p "$(dirname "$log")"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        die "this command failed: $*" "Its whole output is in $log."
    fi
}

# The unpacked packages' programs and libraries, found by them alone.
with_tree() {
    PATH="$TREE/usr/bin:$TREE/usr/sbin:$PATH" \
        LD_LIBRARY_PATH="$TREE/usr/lib/$(uname -m)-linux-gnu" "$@"
}
