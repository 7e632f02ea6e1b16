# What all shell scripts say to people, and how they run noisy commands; sourced, not run.
# shellcheck shell=bash

# How a message of `die` begins.
STOPPED=${STOPPED:-Stopped}

say() { printf '>> %s\n' "$*"; }

die() {
    printf '\n%s: %s\n' "$STOPPED" "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

# Run a noisy command with its output in a log file; show the end of the log if it fails.
quietly() {
    local log=$1
    shift
    mkdir -p "$(dirname "$log")"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 30 "$log" >&2
        die "this command failed: $*" "Its whole output is in $log."
    fi
}
