#!/usr/bin/env bash
# Start a real single-node Kubernetes in namespaces of its own, run a command beside it, and leave
# nothing behind: processes, mounts and network end with the namespaces.
#   tests/cluster/inside.sh COMMAND [ARGUMENT...]
# The command finds KUBECONFIG, GRACE_TEST_MINOR (24 of Kubernetes 1.24), GRACE_TEST_IMAGE,
# GRACE_TEST_NODE, GRACE_TEST_CALLS, a log of calls, and GRACE_TEST_VOLUME, a folder for volumes.
# Logs: <cache>/logs.
#   GRACE_KUBERNETES_BIN=FOLDER   runs the folder's kube-apiserver, kube-controller-manager,
#                                 kube-scheduler and kubelet, and of etcd, containerd, its shim, ctr
#                                 and runc those that it has, in place of what build.sh makes
#   GRACE_TEST_PODS=no            neither containerd nor kubelet, and no image: pods are made,
#                                 refused and scheduled, and never start
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

SERVICES=10.213.0       # network of services; the API server is its first address
PODS=10.213.1           # network of pods, behind a bridge
API=https://$SERVICES.1 # where pods look for it, too
WORK=$CACHE/work        # thrown away with every start
LOGS=$CACHE/logs
IMAGES=$CACHE/containerd # kept, so that an image is imported once
NODE=grace-node

read -ra PROGRAMS <<<"kube-apiserver kube-controller-manager kube-scheduler"
[ "${GRACE_TEST_PODS:-yes}" = no ] || PROGRAMS+=(kubelet)
if [ -n "${GRACE_KUBERNETES_BIN:-}" ]; then
    for program in "${PROGRAMS[@]}"; do
        [ -x "$BINARIES/$program" ] ||
            die "GRACE_KUBERNETES_BIN is $BINARIES, where there is no program $program." \
                "It must hold: ${PROGRAMS[*]}"
    done
fi

# --- The part outside: namespaces, and what they cannot take with them ---------------------------

if [ "${GRACE_TEST_INSIDE:-}" != yes ]; then
    [ "$(id -u)" -eq 0 ] || die "it needs root: it makes namespaces, mounts and control groups."
    [ $# -gt 0 ] || die "give a command to run beside the cluster."
    mkdir -p "$CACHE"
    exec 9>"$CACHE/lock"
    flock -n 9 || die "another one runs on this machine; its lock is $CACHE/lock."
    "$REPOSITORY/tests/cluster/build.sh"
    rm -rf "$WORK"
    # 5 GB an image: one that is not the current one goes.
    [ "${GRACE_TEST_PODS:-yes}" = no ] || cmp --silent "$CACHE/image" "$IMAGES/.holds" ||
        rm -rf "$IMAGES"
    mkdir -p "$WORK" "$LOGS" "$IMAGES"

    # Control groups belong to the kernel as a whole; pods' are below folders of their own.
    # shellcheck disable=SC2317 # a trap calls it
    clean_up() {
        local group
        find /sys/fs/cgroup -depth -type d -path '*/grace-test/*' -exec rmdir {} + 2>/dev/null || true
        for group in /sys/fs/cgroup/grace-test /sys/fs/cgroup/*/grace-test; do
            [ ! -d "$group" ] || rmdir "$group" 2>/dev/null || true
        done
        rm -rf "$WORK"
    }
    trap clean_up EXIT
    status=0
    GRACE_TEST_INSIDE=yes env --default-signal=INT unshare --mount --net --uts --ipc --pid \
        --mount-proc --fork --kill-child "$0" "$@" 9>&- &
    child=$!
    # Ctrl-C reaches the command itself, whose end ends everything. Anyone who tells this to end means
    # all of it: with unshare its first child goes, and with that the namespaces.
    trap : INT
    trap 'kill -KILL "$child"' TERM HUP
    while kill -0 "$child" 2>/dev/null; do wait "$child" && status=0 || status=$?; done
    exit "$status"
fi

# --- The part inside -----------------------------------------------------------------------------

reported=$("$BINARIES/kube-apiserver" --version)
[[ $reported =~ v1\.([0-9]+)\. ]] || die "kube-apiserver says of its version '$reported'."
MINOR=${BASH_REMATCH[1]}

mount --make-rprivate /
hostname "$NODE"
# What the kubelet and containerd write to fixed places goes into folders that are thrown away.
for place in var run; do
    mkdir -p "$WORK/over/$place/upper" "$WORK/over/$place/work"
    mount -t overlay overlay -o \
        "lowerdir=/$place,upperdir=$WORK/over/$place/upper,workdir=$WORK/over/$place/work" "/$place"
done
mkdir -p /run/containerd /var/lib/kubelet
mount -t tmpfs tmpfs /run/containerd
# The kubelet sets these for the whole machine, unless it reads what it wants already.
while read -r name value; do
    echo "$value" >"$WORK/${name//\//-}"
    mount --bind "$WORK/${name//\//-}" "/proc/sys/$name"
done <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END
ip link set lo up
ip address add "$SERVICES.1/32" dev lo
ip link add grace0 type bridge
ip address add "$PODS.1/24" dev grace0
ip link set grace0 up
ip route add default dev grace0
echo 1 >/proc/sys/net/ipv4/ip_forward

# --- Keys and configuration ----------------------------------------------------------------------

cat >"$WORK/tokens.csv" <<END
admin-token,admin,admin,system:masters
manager-token,system:kube-controller-manager,manager
scheduler-token,system:kube-scheduler,scheduler
node-token,system:node:$NODE,node,system:nodes
END
openssl genrsa -out "$WORK/accounts.key" 2048 2>/dev/null
mkdir -p "$WORK/certificates"

kubeconfig() { # FILE TOKEN
    cat >"$1" <<END
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$API", certificate-authority: $WORK/certificates/apiserver.crt}}]
users: [{name: user, user: {token: $2}}]
contexts: [{name: test, context: {cluster: test, user: user}}]
current-context: test
END
}
for who in admin manager scheduler node; do kubeconfig "$WORK/$who.kubeconfig" "$who-token"; done

cat >"$WORK/containerd.toml" <<END
version = 2
root = "$IMAGES"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$TREE/usr/lib/cni"
    conf_dir = "$WORK/cni"
END
# Every call of a controller in the tests' namespace without a kubelet: GRACE_TEST_CALLS.
cat >"$WORK/audit.yaml" <<END
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, users: ["system:serviceaccount:words:grace-controller"]}
  - {level: None}
END
mkdir -p "$WORK/cni"
cat >"$WORK/cni/10-bridge.conflist" <<END
{"cniVersion": "0.4.0", "name": "grace", "plugins": [
  {"type": "bridge", "bridge": "grace0", "isGateway": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$PODS.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "loopback"}]}
END
cat >"$WORK/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
# The API server asks it for logs without a certificate; no one else is in this network.
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /grace-test
clusterDNS: []
failSwapOn: false
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: 100Mi}
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
nodeStatusUpdateFrequency: 5s
resolvConf: ""
syncFrequency: 5s
volumePluginDir: $WORK/plugins
END
# Younger ones refuse machines with version 1 of control groups unless they are told not to.
[ "$MINOR" -lt 31 ] || echo "failCgroupV1: false" >>"$WORK/kubelet.yaml"
OLD_GATES=() OLD_RUNTIME=()
[ "$MINOR" -ge 23 ] || OLD_GATES=(--feature-gates TTLAfterFinished=true)
[ "$MINOR" -ge 24 ] || OLD_RUNTIME=(--container-runtime remote)

# --- The programs --------------------------------------------------------------------------------

start() { # NAME COMMAND...
    local name=$1
    shift
    with_tree "$@" >"$LOGS/$name.log" 2>&1 </dev/null &
}

# One that ends is started again, as on a cluster; tests end it.
supervise() { # NAME COMMAND...
    local name=$1
    shift
    (while :; do
        with_tree "$@" >>"$LOGS/$name.log" 2>&1 </dev/null || true
        sleep 0.2
    done) &
}

await() { # SECONDS WHAT COMMAND...
    local seconds=$1 what=$2 begun=$SECONDS
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $((SECONDS - begun)) -lt "$seconds" ] || {
            tail -n 5 "$LOGS"/*.log >&2
            die "no $what within $seconds s" "Logs: $LOGS"
        }
        sleep 0.2
    done
}

for group in memory cpu cpuacct cpuset pids devices freezer blkio hugetlb perf_event net_cls systemd; do
    [ ! -d "/sys/fs/cgroup/$group" ] || mkdir -p "/sys/fs/cgroup/$group/grace-test"
done
for setting in cpus mems; do
    file=/sys/fs/cgroup/cpuset/grace-test/cpuset.$setting
    [ ! -f "$file" ] || cat "/sys/fs/cgroup/cpuset/cpuset.$setting" >"$file"
done

rm -f "$LOGS"/*.log
start etcd etcd --data-dir "$WORK/etcd" --unsafe-no-fsync
supervise apiserver "$BINARIES/kube-apiserver" --etcd-servers http://127.0.0.1:2379 \
    --bind-address "$SERVICES.1" --advertise-address "$SERVICES.1" --secure-port 443 \
    --service-cluster-ip-range "$SERVICES.0/24" --cert-dir "$WORK/certificates" \
    --token-auth-file "$WORK/tokens.csv" --authorization-mode Node,RBAC \
    --enable-admission-plugins NodeRestriction,PodNodeSelector,Priority \
    --service-account-issuer "$API" --service-account-signing-key-file "$WORK/accounts.key" \
    --service-account-key-file "$WORK/accounts.key" "${OLD_GATES[@]}" \
    --audit-policy-file "$WORK/audit.yaml" --audit-log-path "$WORK/calls.jsonl" \
    --kubelet-preferred-address-types InternalIP
export KUBECONFIG=$WORK/admin.kubeconfig
await 180 "API server" kubectl get --raw /readyz
kubectl create clusterrolebinding kubelets --clusterrole system:node --user "system:node:$NODE" \
    >/dev/null
# The node without a machine never reports: it is to count as healthy for longer than tests take.
start controller-manager "$BINARIES/kube-controller-manager" \
    --kubeconfig "$WORK/manager.kubeconfig" --use-service-account-credentials \
    --service-account-private-key-file "$WORK/accounts.key" \
    --root-ca-file "$WORK/certificates/apiserver.crt" "${OLD_GATES[@]}" \
    --authentication-skip-lookup --leader-elect=false --node-monitor-grace-period 3600s
start scheduler "$BINARIES/kube-scheduler" --kubeconfig "$WORK/scheduler.kubeconfig" \
    --leader-elect=false --authentication-skip-lookup
# shellcheck disable=SC2317 # called by its name
images() { with_tree ctr --address /run/containerd/containerd.sock --namespace k8s.io images "$@"; }
run_pods() {
    start containerd containerd --config "$WORK/containerd.toml"
    await 120 "containerd" images list
    GRACE_TEST_IMAGE=$(cat "$CACHE/image")
    export GRACE_TEST_IMAGE
    if [ ! -f "$IMAGES/.holds" ]; then
        say "Importing $GRACE_TEST_IMAGE"
        quietly "$LOGS/import.log" images import "$CACHE/pause.tar"
        quietly "$LOGS/import.log" images import "$CACHE/image-${GRACE_TEST_IMAGE##*:}.tar"
        cp "$CACHE/image" "$IMAGES/.holds"
    fi
    start kubelet "$BINARIES/kubelet" --config "$WORK/kubelet.yaml" \
        --kubeconfig "$WORK/node.kubeconfig" --root-dir "$WORK/kubelet" --cert-dir "$WORK/kubelet-pki" \
        "${OLD_RUNTIME[@]}" --node-ip "$PODS.1" --hostname-override "$NODE" \
        --container-runtime-endpoint unix:///run/containerd/containerd.sock
    await 180 "node" kubectl wait --for=condition=Ready "node/$NODE" --timeout=2s
}
[ "${GRACE_TEST_PODS:-yes}" = no ] || run_pods

# --- The command ---------------------------------------------------------------------------------

export GRACE_TEST_VOLUME=/var/grace-test GRACE_TEST_NODE=$NODE GRACE_TEST_MINOR=$MINOR
export GRACE_TEST_CALLS=$WORK/calls.jsonl
mkdir "$WORK/volume" "$GRACE_TEST_VOLUME"
mount --bind "$WORK/volume" "$GRACE_TEST_VOLUME"
say "Kubernetes $(kubectl version -o json | sed -n 's/.*"gitVersion": "\(.*\)".*/\1/p' | tail -n 1) runs on $NODE"
status=0
"$@" || status=$?
exit "$status"
