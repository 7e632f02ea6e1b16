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

# The last words of a log that grows, and for how long it has: on a terminal one line that changes, elsewhere
# a line a minute. Ends with the shell that asked for it.
follow_log() {
    local log=$1 began=$SECONDS seconds words width
    width=$({ stty size </dev/tty | cut -d " " -f 2; } 2>/dev/null || true)
    while sleep 1 >/dev/null && kill -0 $$ 2>/dev/null; do
        seconds=$((SECONDS - began))
        words=$(tail -n 1 "$log" 2>/dev/null | tr -cd '[:print:]')
        if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
            words=$(printf '   %d:%02d  %s' $((seconds / 60)) $((seconds % 60)) "$words")
            printf '\r%s\033[K' "${words:0:$((${width:-80} - 1))}"
        elif [ $((seconds % 60)) -eq 0 ]; then
            printf '   %d min  %s\n' $((seconds / 60)) "${words:0:100}"
        fi
    done
}

# Run a noisy command with its output in a log file, of which the last line is shown meanwhile; show the end
# of the log if it fails.
quietly() {
    local log=$1 failed=no follower
    shift
    mkdir -p "$(dirname "$log")"
    : >"$log"
    # The command stays in front, so that Ctrl-C ends it.
    follow_log "$log" &
    follower=$!
    "$@" >"$log" 2>&1 </dev/null || failed=yes
    kill "$follower" 2>/dev/null || true
    wait "$follower" 2>/dev/null || true
    [ ! -t 1 ] || [ "${TERM:-dumb}" = dumb ] || printf '\r\033[K'
    if [ $failed = yes ]; then
        tail -n 30 "$log" >&2
        die "this command failed: $*" "Its whole output is in $log."
    fi
}
