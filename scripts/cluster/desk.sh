# A pod that sees the shared volume, for as long as a command runs; sourced.
# shellcheck shell=bash

DESK=grace-desk
DESK_STARTS_WITHIN_S=600 # pulling the image, mounting the volume

# There is one desk of a name at a time, which is a lock for those that share one.
open_desk() { # NAME
    local begun=$SECONDS state
    # Their deadline has ended those that a killed command left.
    k delete pods --selector "$OURS,app.kubernetes.io/component=desk" \
        --field-selector status.phase=Failed >/dev/null
    # One that goes is waited for.
    [ -z "$(k get pod "$1" --ignore-not-found --output \
        jsonpath='{.metadata.deletionTimestamp}')" ] ||
        k delete pod "$1" --ignore-not-found --wait >/dev/null
    manifest desk | sed "s/^  name: $DESK\$/  name: $1/" | k create --filename - >/dev/null ||
        die "the pod $1 could not be made; kubectl's words are above." \
            "If it exists: another command uses it, or was killed; then it goes within an hour," \
            "or with make cluster-down, which ends all that runs there."
    DESK=$1
    trap close_desk EXIT
    say "Waiting for the pod $DESK, through which files travel"
    while [ $((SECONDS - begun)) -lt "$DESK_STARTS_WITHIN_S" ]; do
        ! k wait --for=condition=Ready "pod/$DESK" --timeout=10s >/dev/null 2>&1 || return 0
        state=$(k get pod "$DESK" --output \
            jsonpath='{.status.phase} {.status.containerStatuses[*].state.waiting.reason}')
        case $state in
            *Image* | Failed*) break ;; # waiting does not help
        esac
    done
    die "the pod $DESK did not start: $state" "$(k get events --field-selector \
        "involvedObject.name=$DESK" --output jsonpath='{range .items[*]}{.message}{"\n"}{end}')"
}
close_desk() { k delete pod "$DESK" --ignore-not-found --wait=false >/dev/null; }
at_desk() { k exec --stdin "$DESK" -- "$@"; }
