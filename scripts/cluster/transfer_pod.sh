# A pod that sees the shared volume, for as long as a command runs; sourced.
# shellcheck shell=bash

# The object's name and label are those that earlier checkouts know: the name is their lock, too.
TRANSFER_POD=${PREFIX}grace-desk
TRANSFER_POD_STARTS_WITHIN_S=$START_PATIENCE_S # pulling the image, mounting the volume

# There is one pod of a name at a time, which is a lock for those that share one.
open_transfer_pod() { # NAME
    local begun=$SECONDS state
    # Their deadline has ended those that a killed command left.
    k delete pods --selector "$OURS,app.kubernetes.io/component=desk" \
        --field-selector status.phase=Failed >/dev/null
    # One that goes is waited for.
    [ -z "$(k get pod "$1" --ignore-not-found --output \
        jsonpath='{.metadata.deletionTimestamp}')" ] ||
        k delete pod "$1" --ignore-not-found --wait >/dev/null
    manifest desk "$1" | k create --filename - >/dev/null ||
        die "the pod $1 could not be made; kubectl's words are above." \
            "If it exists: another command uses it, or was killed; then it goes within an hour," \
            "or with make cluster-down, which ends all that runs there."
    TRANSFER_POD=$1
    trap close_transfer_pod EXIT
    say "Waiting for the pod $TRANSFER_POD, through which files travel"
    while [ $((SECONDS - begun)) -lt "$TRANSFER_POD_STARTS_WITHIN_S" ]; do
        ! k wait --for=condition=Ready "pod/$TRANSFER_POD" --timeout=10s >/dev/null 2>&1 || return 0
        state=$(k get pod "$TRANSFER_POD" --output \
            jsonpath='{.status.phase} {.status.containerStatuses[*].state.waiting.reason}')
        case $state in
            *Image* | Failed*) break ;; # waiting does not help
        esac
    done
    die "the pod $TRANSFER_POD did not start: $state" "$(k get events --field-selector \
        "involvedObject.name=$TRANSFER_POD" --output jsonpath='{range .items[*]}{.message}{"\n"}{end}')"
}
close_transfer_pod() { k delete pod "$TRANSFER_POD" --ignore-not-found --wait=false >/dev/null; }
in_transfer_pod() { k exec --stdin "$TRANSFER_POD" -- "$@"; }
