#!/usr/bin/env bash
# Stop what runs. Volumes, with results, journal and weights, stay.
#   scripts/cluster/down.sh                 end the controller, then every Job and pod of Grace in
#                                           the namespace: of `instance`, or else no matter whose
#   scripts/cluster/down.sh --everything    and delete the volumes with all that is on them, rights,
#                                           quota and Secrets; the namespace itself stays
# It ends within LIMIT_S seconds for each of the two, and names what is left then.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

LIMIT_S=${LIMIT_S:-300} # more than the controller's `terminationGracePeriodSeconds`

[ $# -eq 0 ] || [ "$*" = --everything ] ||
    die "unknown argument: $*" "Allowed: nothing, or --everything."
[[ $LIMIT_S =~ ^[1-9][0-9]*$ ]] || die "LIMIT_S is '$LIMIT_S', but must be seconds, such as 300."

# A pod on a silent node never goes, and an API server may never answer a call: what is to go is waited
# for until the deadline, and 10 s at least, with kubectl's own limit for the one, and its end for both.
remove() { # WHAT... as kubectl takes it
    local rest=$((deadline - SECONDS)) least=$((LIMIT_S < 10 ? LIMIT_S : 10)) last
    rest=$((rest > least ? rest : least)) last=$((SECONDS + rest + 2))
    kubectl ${CONTEXT:+--context "$CONTEXT"} --namespace "$NAMESPACE" \
        delete "$@" --ignore-not-found --wait --timeout="${rest}s" &
    deleting=$!
    while kill -0 "$deleting" 2>/dev/null && [ "$SECONDS" -lt "$last" ]; do sleep 0.2; done
    kill "$deleting" 2>/dev/null && say "No answer within $rest s: kubectl delete $*"
    wait "$deleting" || failed=yes
    deleting=''
}
deleting='' # a process in the background does not hear of Ctrl-C
trap '[ -z "$deleting" ] || kill "$deleting" 2>/dev/null || true' EXIT

# The objects of a kind that are there, and where pods are.
list_left() { # KINDS
    k get "$1" --selector "$OURS" --request-timeout=30s --output \
        jsonpath='{range .items[*]}{.kind} {.metadata.name} {.spec.nodeName}{"\n"}{end}' ||
        echo "unknown: kubectl's words are above"
}

name_left() { # KINDS ADVICE...
    local left
    left=$(list_left "$1" | sed -E '/^ *$/d; s/^Pod ([^ ]+) ([^ ]+)$/Pod \1 on the node \2/; s/ +$//')
    [ -n "$left" ] || return 0
    shift
    die "this is left after $LIMIT_S s:" "${left//$'\n'/$'\n'  }" "$@"
}

reach_cluster
failed=no deadline=$((SECONDS + LIMIT_S))
say "Ending $CONTROLLER, then all else of Grace; what has not gone within $LIMIT_S s is named"
# The controller first, so that it starts nothing new; its pods are those that are deleted next.
remove job "$CONTROLLER" --cascade=foreground
remove jobs,pods --selector "$OURS"
# Those of runs; the token's has no such label.
remove secrets --selector "$OURS"
[ "$failed" = no ] || name_left jobs,pods,secrets \
    "A pod that does not go is on a node that may be silent (kubectl get nodes), and may still write." \
    "Once the node is back, it goes by itself. When no one can write there any more:" \
    "kubectl --namespace $NAMESPACE delete pods --force --selector '$OURS'"
if [ "${1:-}" = --everything ]; then
    failed=no deadline=$((SECONDS + LIMIT_S))
    remove secret "$TOKEN" "$ENVIRONMENT"
    # By kind, not by the overlay: that has the namespace too, in which there may be more than ours.
    for kind in persistentvolumeclaims resourcequotas rolebindings roles serviceaccounts; do
        remove "$kind" --selector "$OURS"
    done
    [ "$failed" = no ] || name_left \
        persistentvolumeclaims,resourcequotas,rolebindings,roles,serviceaccounts \
        "A volume goes once no pod has it; rights may be an administrator's to delete."
    say "Deleted: volumes, rights, quota and Secrets of Grace. The namespace $NAMESPACE stays."
else
    say "Volumes stay: results, journal, weights. To delete them: make cluster-down ARGS=--everything"
fi
