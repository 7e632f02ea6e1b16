#!/usr/bin/env bash
# Copy this checkout to the cluster's volume and run Snakemake there, as a Job.
#   scripts/cluster/run.sh [--prefetch] [ARGUMENT FOR SNAKEMAKE...]
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=transfer_pod.sh
source scripts/cluster/transfer_pod.sh
# shellcheck source=upload.sh
source scripts/cluster/upload.sh

component=controller
if [ "${1:-}" = --prefetch ]; then
    component=prefetch
    shift
fi
job=${PREFIX}grace-$component
for argument in "$@"; do
    case $argument in
        cluster=* | *[=C]cluster=*)
            die "'$argument' among the arguments would reach Snakemake alone, not these commands." \
                "Set \`cluster\` in config/config.yaml."
            ;;
    esac
done

refuse_a_second_run() {
    local other
    for other in "$CONTROLLER" "$PREFETCH"; do
        ! under_way "$other" || die "$other is still under way; see: make cluster-status" \
            "Its files must not change meanwhile. Wait for its end, or stop it: make cluster-down"
    done
}

hold_overlay_to_entry
reach_cluster
refuse_a_second_run
open_transfer_pod "$TRANSFER_POD"
refuse_a_second_run # again: who had the pod before may have started one
upload
k delete job "$job" --ignore-not-found --wait >/dev/null
manifest "$component" "" "$@" | k create --filename -
say "Watch it: make cluster-status, or:" \
    "kubectl ${CONTEXT:+--context $CONTEXT }--namespace $NAMESPACE logs --follow job/$job"
