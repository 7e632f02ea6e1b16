#!/usr/bin/env bash
# Stop what runs. Volumes, with results, journal and weights, stay.
#   scripts/cluster/down.sh                 end the controller, then every Job and pod of Grace in
#                                           the namespace, no matter who started it
#   scripts/cluster/down.sh --everything    and delete the volumes with all that is on them, rights,
#                                           quota and Secrets; the namespace itself stays
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ $# -eq 0 ] || [ "$*" = --everything ] ||
    die "unknown argument: $*" "Allowed: nothing, or --everything."

reach_cluster
# The controller first, so that it starts nothing new; it deletes its own Jobs when it is told to end.
k delete job grace-controller --ignore-not-found --cascade=foreground --wait
k delete jobs,pods --selector "$OURS" --ignore-not-found --wait
# Those of runs; the token's has no such label.
k delete secrets --selector "$OURS" --ignore-not-found
if [ "${1:-}" = --everything ]; then
    k delete secret "$TOKEN" "$ENVIRONMENT" --ignore-not-found
    # By kind, not by the overlay: that has the namespace too, in which there may be more than ours.
    k delete persistentvolumeclaims,serviceaccounts,roles,rolebindings,resourcequotas \
        --selector "$OURS" --ignore-not-found --wait
    say "Deleted: volumes, rights, quota and Secrets of Grace. The namespace $NAMESPACE stays."
else
    say "Volumes stay: results, journal, weights. To delete them: make cluster-down ARGS=--everything"
fi
