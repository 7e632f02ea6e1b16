# Shared by the cluster's commands; sourced, not run. They are kubectl with arguments: what it says
# of a failure is what you see.
# shellcheck shell=bash

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=scripts/lib/shell.sh
source scripts/lib/shell.sh

command -v kubectl >/dev/null ||
    die "kubectl is missing." "Install it: https://kubernetes.io/docs/tasks/tools/"

# The cluster is that of the config, so that these commands and Snakemake speak of the same one.
CLUSTER=$(sed -n 's/^cluster: *\([A-Za-z0-9._-]*\).*/\1/p' config/config.yaml)
OVERLAY=workflow/kubernetes/overlays/${CLUSTER:=nrp}
[ -d "$OVERLAY" ] || die "there is no folder $OVERLAY for the cluster '$CLUSTER'." \
    "Copy one of workflow/kubernetes/overlays, or name another in config/config.yaml: cluster."
NAMESPACE=$(sed -n 's/^namespace: *//p' "$OVERLAY/kustomization.yaml")

OURS=app.kubernetes.io/name=grace
# shellcheck disable=SC2034 # for those that source this
COMPUTING="$OURS,!app.kubernetes.io/component" # the pods that the controller has submitted
DESK=grace-desk
# shellcheck disable=SC2034
TOKEN=grace-hf-token

k() { kubectl --namespace "$NAMESPACE" "$@"; }

# A manifest of the overlay's jobs/ by its component, with arguments for Snakemake.
manifest() {
    local component=$1
    shift
    local arguments=""
    [ $# -eq 0 ] || printf -v arguments '%q ' "$@"
    kubectl kustomize "$OVERLAY/jobs" |
        awk -v RS='---\n' -v mark="app.kubernetes.io/component: $component\n" 'index($0, mark)' |
        kubectl set env --local --filename - "GRACE_ARGS=$arguments" --output yaml
}

# Is a Job there that is neither complete nor failed?
under_way() {
    k get job "$1" --ignore-not-found --output \
        jsonpath='{.metadata.name}{.status.conditions[?(@.status=="True")].type}' | grep -qx "$1"
}

# A pod that sees the shared volume, for as long as the command runs.
open_desk() {
    k delete pod "$DESK" --ignore-not-found --wait >/dev/null
    trap close_desk EXIT
    manifest desk | k create --filename - >/dev/null
    k wait --for=condition=Ready "pod/$DESK" --timeout=600s >/dev/null ||
        die "the pod $DESK did not start." "$(k get events --field-selector \
            "involvedObject.name=$DESK" --output jsonpath='{range .items[*]}{.message}{"\n"}{end}')"
}
close_desk() { k delete pod "$DESK" --ignore-not-found --wait=false >/dev/null; }
at_desk() { k exec --stdin "$DESK" -- "$@"; }
