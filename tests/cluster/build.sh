#!/usr/bin/env bash
# Build what a real Kubernetes on this machine needs, from Debian alone, into a cache that is used
# again: Kubernetes from Debian's source, etcd, containerd, runc and network plugins from its
# packages, and the image of envs/Containerfile. Nothing is installed on the machine.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

PACKAGES=(etcd-server containerd runc containernetworking-plugins debootstrap
    golang-1.19-go golang-1.19-src rsync libpopt0)

[ "$(id -u)" -eq 0 ] || die "it needs root: it makes namespaces, mounts and control groups."
command -v apt-get >/dev/null || die "it needs Debian: Kubernetes is built from Debian's source."
for tool in dpkg-source make gcc kubectl openssl ip; do
    command -v "$tool" >/dev/null ||
        die "$tool is missing." "apt-get install dpkg-dev build-essential openssl iproute2" \
            "kubectl: see the Kubernetes documentation"
done

# apt with the machine's own mirrors, sources included, but lists and a cache of its own.
apt() {
    "apt-$1" -q -o Dir::State="$CACHE/apt/state" -o Dir::State::status=/var/lib/dpkg/status \
        -o Dir::Cache="$CACHE/apt/cache" -o Dir::Etc::sourcelist="$CACHE/apt/sources.list" \
        -o Dir::Etc::sourceparts=- -o APT::Sandbox::User=root "${@:2}"
}

# shellcheck disable=SC2016 # apt fills these in
mirrors() {
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' \
        'Created-By: Packages' | awk '$1 == "Debian" {
            key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
            print "deb", key, $2, $3, $4
            print "deb-src", key, $2, $3, $4
        }' | sort -u
}

packages() {
    [ -f "$TREE/.complete" ] && return
    say "Fetching Debian packages: ${PACKAGES[*]}"
    mkdir -p "$CACHE/apt/state/lists/partial" "$CACHE/apt/cache/archives/partial" "$CACHE/debs"
    mirrors >"$CACHE/apt/sources.list"
    grep -q ' bookworm ' "$CACHE/apt/sources.list" ||
        die "it needs Debian 12 (bookworm), whose Kubernetes it builds."
    quietly "$CACHE/apt.log" apt get update
    cd "$CACHE/debs"
    quietly "$CACHE/apt.log" apt get download "${PACKAGES[@]}"
    for package in ./*.deb; do dpkg-deb -x "$package" "$TREE"; done
    cd "$REPOSITORY"
    rm -r "$CACHE/debs"
    touch "$TREE/.complete"
}

kubernetes() {
    local programs=(kube-apiserver kube-controller-manager kube-scheduler kubelet)
    [ -z "${GRACE_KUBERNETES_BIN:-}" ] || return 0
    [ -f "$BUILT/.complete" ] && return
    say "Building Kubernetes from Debian's source (8 minutes on two idle cores)"
    rm -rf "$CACHE/source" "$BUILT"
    mkdir -p "$CACHE/source" "$BUILT"
    cd "$CACHE/source"
    quietly "$CACHE/source.log" apt get source --download-only kubernetes
    quietly "$CACHE/source.log" dpkg-source --no-check -x ./*.dsc kubernetes
    cd kubernetes
    GOROOT=$TREE/usr/lib/go-1.19 GOCACHE=$CACHE/go-cache GOFLAGS=-mod=vendor GOPROXY=off \
        CGO_ENABLED=0 PATH=$TREE/usr/lib/go-1.19/bin:$PATH \
        quietly "$CACHE/build.log" with_tree make WHAT="${programs[*]/#/cmd/}" GOLDFLAGS='-s -w'
    cp "${programs[@]/#/_output/bin/}" "$BUILT"
    cd "$REPOSITORY"
    rm -rf "$CACHE/source" "$CACHE/go-cache"
    touch "$BUILT/.complete"
}

# A pod's own process, which holds its network while containers come and go.
pause() {
    [ -f "$BUILT/pause" ] && return
    mkdir -p "$BUILT"
    gcc -Os -static -x c -o "$BUILT/pause" - <<'END'
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int signal) { (void)signal; exit(0); }
static void reap(int signal) { (void)signal; while (waitpid(-1, NULL, WNOHANG) > 0); }
int main(void) {
    signal(SIGINT, end);
    signal(SIGTERM, end);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
END
}

image() {
    local builder=("$REPOSITORY/tests/cluster/containerfile.py"
        --repository "$REPOSITORY" --cache "$CACHE" --stage main)
    [ -f "$CACHE/image-$(with_tree python3 "${builder[@]}" --digest).tar" ] ||
        say "Building the image of envs/Containerfile (4 minutes)"
    quietly "$CACHE/image.log" with_tree python3 "${builder[@]}"
}

mkdir -p "$CACHE"
exec 8>"$CACHE/build.lock"
flock 8 # another build's end
packages
kubernetes
if [ "${GRACE_TEST_PODS:-yes}" != no ]; then
    pause
    image
fi
