#!/usr/bin/env bash
# Apply what stays in the cluster: volumes, the controller's rights, the token's Secret.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

kubectl apply --kustomize "$OVERLAY"

if [ -n "${HF_TOKEN:-}" ]; then
    # By a file, since everybody on this machine can read arguments.
    k get secret "$TOKEN" >/dev/null 2>&1 ||
        k create secret generic "$TOKEN" --from-file=HF_TOKEN=<(printf %s "$HF_TOKEN")
elif ! k get secret "$TOKEN" >/dev/null 2>&1; then
    say "No Secret $TOKEN. Pods of the cluster's entry may need one: HF_TOKEN=... make cluster-up"
fi
say "Ready: make cluster-prefetch brings the weights, make cluster-run runs."
