#!/usr/bin/env bash
# Copy results from the cluster's volume to this checkout, and the logs that `snakemake job_logs`
# reads. Files of the same name are replaced; where some were made here, only with --replace.
#   scripts/cluster/fetch.sh [--replace] [FOLDER...]
# Folders are below the project; default: `results` of the config.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=transfer_pod.sh
source scripts/cluster/transfer_pod.sh

# In a folder that was fetched; what is younger was made here.
MARK=.fetched

replace=no
if [ "${1:-}" = --replace ]; then
    replace=yes
    shift
fi
if [ $# -eq 0 ]; then
    RESULTS='' # by the next line
    settings=$(plan shell_settings results) || exit
    eval "$settings"
    set -- "$RESULTS"
fi
for folder in "$@"; do
    case $folder in
        -*) die "unknown argument: $folder" "Allowed: --replace, and after it folders." ;;
        /* | .* | *..*) die "$folder is not a folder below the project." ;;
    esac
done

# A file of a folder that was made here. Looking at logs makes one, which counts for nothing, as does
# the page that git brings.
made_here() { # FOLDER
    if [ -e "$1/$MARK" ]; then
        find "$1" -type f -newer "$1/$MARK" -not -path "$1/logs/*" -not -path "$1/README.md"
    else
        find "$1" -type f -not -path "$1/README.md"
    fi | sed -n 1p
}
for folder in "$@"; do
    if [ "$replace" = no ] && [ -d "$folder" ]; then
        mine=$(made_here "$folder")
        [ -z "$mine" ] || die "$mine was made here, not fetched." \
            "The cluster's files would replace those of the same name in $folder. Move it away, or:" \
            "make cluster-fetch ARGS=\"--replace $*\""
    fi
done

reach_cluster
open_transfer_pod "$TRANSFER_POD-$(printf %04x%04x "$RANDOM" "$RANDOM")"
part=$(mktemp)
for try in 1 2 3; do
    # gzip's checksum tells whether all of it has arrived: connections of exec may end early.
    if in_transfer_pod bash -s -- "$@" >"$part" <<'END' && gzip --test "$part"; then
# Snakemake's records of runs, and the logs of pods that failed.
for more in .snakemake/log .snakemake/auxiliary/kubernetes-logs; do
    [ ! -e "$more" ] || set -- "$@" "$more"
done
exec tar --create --gzip --file - -- "$@"
END
        tar --extract --gzip --no-same-owner --file "$part"
        rm "$part"
        for folder in "$@"; do touch "$folder/$MARK"; done
        say "Fetched: $*; files of the same name were replaced"
        exit 0
    fi
    say "Try $try failed"
done
rm "$part"
die "the results could not be fetched; kubectl's words are above."
