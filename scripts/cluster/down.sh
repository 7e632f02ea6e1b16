#!/usr/bin/env bash
# Stop what runs. Volumes, with results, journal and weights, stay.
#   scripts/cluster/down.sh                 end the controller, then every pod of ours
#   scripts/cluster/down.sh --everything    and delete the volumes with all that is on them
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ $# -eq 0 ] || [ "$*" = --everything ] ||
    die "unknown argument: $*" "Allowed: nothing, or --everything."

# The controller first, so that it starts nothing new; it deletes its own Jobs when it is told to end.
k delete job grace-controller --ignore-not-found --cascade=foreground --wait
k delete jobs,pods --selector "$OURS" --ignore-not-found --wait
if [ "${1:-}" = --everything ]; then
    k delete secret "$TOKEN" --ignore-not-found
    kubectl delete --kustomize "$OVERLAY" --ignore-not-found --wait
else
    say "Volumes stay: results, journal, weights. To delete them: make cluster-down ARGS=--everything"
fi
