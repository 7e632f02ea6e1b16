#!/usr/bin/env bash
# Apply what stays in the cluster: volumes, the controller's rights, the token's Secret.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

hold_overlay_to_entry
reach_cluster
kube apply --kustomize "$OVERLAY"

if [ -n "${HF_TOKEN:-}" ]; then
    # Anew, since the one that is there may hold another token. By a file, since everybody on this
    # machine can read arguments.
    k delete secret "$TOKEN" --ignore-not-found
    k create secret generic "$TOKEN" --from-file=HF_TOKEN=<(printf %s "$HF_TOKEN")
elif [ -z "$(k get secret "$TOKEN" --ignore-not-found --output name)" ]; then
    say "No Secret $TOKEN. Pods of the cluster's entry may need one: HF_TOKEN=... make cluster-up"
fi
say "Ready: make cluster-prefetch brings the weights, make cluster-run runs."
