# Shared by the cluster's commands; sourced, not run. They are kubectl with arguments: what it says
# of a failure is what you see.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=scripts/lib/shell.sh
source scripts/lib/shell.sh

command -v kubectl >/dev/null ||
    die "kubectl is missing." "Install it: https://kubernetes.io/docs/tasks/tools/"

# shellcheck source=scripts/cluster/settings.sh
source scripts/cluster/settings.sh

# Objects of Grace: where several people share the namespace, those of this instance alone, and
# without one those that belong to no instance.
OURS=app.kubernetes.io/name=grace
if [ -n "$INSTANCE" ]; then
    OURS=$OURS,app.kubernetes.io/instance=$INSTANCE
else
    OURS="$OURS,!app.kubernetes.io/instance"
fi
PREFIX=${INSTANCE:+$INSTANCE-} # of the names of all that Grace makes
# shellcheck disable=SC2034
CONTROLLER=${PREFIX}grace-controller PREFETCH=${PREFIX}grace-prefetch
# shellcheck disable=SC2034 # for those that source this
COMPUTING="$OURS,!app.kubernetes.io/component" # the pods that the controller has submitted
# shellcheck disable=SC2034
TOKEN=${PREFIX}grace-hf-token
# shellcheck disable=SC2034
ENVIRONMENT=${PREFIX}grace-environment

# One cheap call before all others, whose failure is reported without the client's own log lines.
reach_cluster() {
    local error
    error=$(kube get --raw "/api/v1/namespaces/$NAMESPACE/pods?limit=1" --request-timeout=30s \
        2>&1 >/dev/null) && return
    die "no way to the namespace '$NAMESPACE' of the cluster '$CLUSTER'." \
        "$(tail -n 1 <<<"$error")" \
        "The context was ${CONTEXT:-$(kubectl config current-context 2>/dev/null || echo none)};" \
        "kubectl config get-contexts lists all. Choose one by \`context\` of $CLUSTER in" \
        "config/clusters.yaml, or name another kubeconfig: KUBECONFIG=..."
}

# A manifest of the overlay's jobs/ by its component, under a name if one is given, with arguments for
# Snakemake.
manifest() { # COMPONENT NAME [ARGUMENT...]
    kubectl kustomize "$OVERLAY/jobs" | plan overlay manifest "$CLUSTER" "$@"
}

# Is a Job there that is neither complete nor failed?
under_way() {
    local state
    state=$(k get job "$1" --ignore-not-found --output \
        jsonpath='{.metadata.name} {.status.conditions[?(@.status=="True")].type}') ||
        die "no one knows whether $1 is under way; kubectl's words are above." \
            "Nothing was changed. Try again."
    case "$state " in
        ' ' | *' Complete '* | *' Failed '*) return 1 ;;
    esac
}
