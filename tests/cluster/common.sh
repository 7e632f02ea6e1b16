# Shared by the scripts of the real cluster; sourced, not run.
# shellcheck shell=bash disable=SC2034

set -euo pipefail

REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/grace-test-cluster
TREE=$CACHE/root # Debian packages, unpacked; none is installed
BUILT=$CACHE/kubernetes                     # what build.sh makes
BINARIES=${GRACE_KUBERNETES_BIN:-$BUILT} # what runs

STOPPED="The test cluster stopped"
# shellcheck source=scripts/lib/shell.sh
source "$REPOSITORY/scripts/lib/shell.sh"

# The unpacked packages' programs and libraries, found by them alone. Of GRACE_KUBERNETES_BIN anything
# that it has comes first.
with_tree() {
    PATH="$BINARIES:$TREE/usr/bin:$TREE/usr/sbin:$PATH" \
        LD_LIBRARY_PATH="$TREE/usr/lib/$(uname -m)-linux-gnu" "$@"
}
