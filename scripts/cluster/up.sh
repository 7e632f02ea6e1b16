#!/usr/bin/env bash
# Apply what stays in the cluster: volumes, the controller's rights, the token's Secret.
#   scripts/cluster/up.sh             make them
#   scripts/cluster/up.sh --rights    print account, Role and RoleBinding, for an administrator
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ $# -eq 0 ] || [ "$*" = --rights ] ||
    die "unknown argument: $*" "Allowed: nothing, or --rights."

if [ $# -gt 0 ]; then
    kubectl kustomize "$OVERLAY" | plan overlay rights "$CLUSTER"
    exit
fi
hold_overlay_to_entry
reach_cluster
objects=$(kubectl kustomize "$OVERLAY" | plan overlay objects "$CLUSTER")
if [ -n "$objects" ]; then
    kube apply --filename - <<<"$objects" ||
        die "not all could be made; kubectl's words are above." \
            "If you may not make Roles: make -s cluster-up ARGS=--rights prints what an administrator" \
            "has to apply; name the account in \`controller_account\` of $CLUSTER in" \
            "config/clusters.yaml then, and cluster-up makes none."
fi

if [ -n "$TOKEN_SECRET" ] && [ "$TOKEN_SECRET" != "$TOKEN" ]; then
    [ -n "$(k get secret "$TOKEN_SECRET" --ignore-not-found --output name)" ] ||
        die "there is no Secret $TOKEN_SECRET, which \`hf_token.name\` of $CLUSTER in" \
            "config/clusters.yaml names as one that exists. Make it, or leave \`name\` out and run:" \
            "HF_TOKEN=... make cluster-up"
    [ -z "${HF_TOKEN:-}" ] || say "HF_TOKEN is not used: the Secret $TOKEN_SECRET exists already."
elif [ -n "${HF_TOKEN:-}" ]; then
    # Anew, since the one that is there may hold another token. By a file, since everybody on this
    # machine can read arguments.
    k delete secret "$TOKEN" --ignore-not-found
    k create secret generic "$TOKEN" --from-file=HF_TOKEN=<(printf %s "$HF_TOKEN")
elif [ -z "$(k get secret "$TOKEN" --ignore-not-found --output name)" ]; then
    say "No Secret $TOKEN. Pods of the cluster's entry may need one: HF_TOKEN=... make cluster-up"
fi
say "Ready: make cluster-prefetch brings the weights, make cluster-run runs."
