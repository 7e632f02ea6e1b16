#!/usr/bin/env bash
# Pods by model and replication, how far the run is, and how busy the GPUs are.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

reach_cluster
say "Pods in $NAMESPACE"
k get pods --selector "$OURS" --label-columns grace/model,grace/replication,grace/rule \
    --sort-by .metadata.creationTimestamp

if [ -n "$(k get job "$CONTROLLER" --ignore-not-found --output name)" ]; then
    say "Progress"
    k logs "job/$CONTROLLER" --tail=-1 >"${log:=$(mktemp)}" || true
    grep -E '^[0-9]+ of [0-9]+ steps' "$log" | tail -n 1 || echo "no step is done yet"
    # The last line of each pod that goes on: what it does, since when, how long all before took.
    say "Phases of the pods that ask a model"
    going=$(k get pods --selector "$COMPUTING" --output \
        jsonpath='{range .items[?(@.status.phase!="Succeeded")]}{.metadata.name}{":\n"}{end}')
    grep '^Phase of ' "$log" |
        awk -v going="$going" 'BEGIN { split(going, names, "\n"); for (i in names) there[names[i]] }
            $3 in there { last[$3] = $0 } END { for (pod in last) print last[pod] }' | sort ||
        echo "none"
    say "The controller's last lines"
    tail -n "${LINES_SHOWN:-10}" "$log"
    rm -f "$log"
else
    say "No run has been started, or its Job has expired: make cluster-run"
fi

pods=$(k get pods --selector "$COMPUTING" --field-selector status.phase=Running --output \
    jsonpath='{range .items[*]}{.metadata.name} {.spec.containers[0].resources.limits}{"\n"}{end}' |
    awk '/nvidia.com/ { print $1 }')
if [ -n "$pods" ]; then
    say "GPU use: index, use, memory in use, memory"
    for pod in $pods; do
        echo "$pod"
        k exec "$pod" -- nvidia-smi --format=csv,noheader \
            --query-gpu=index,utilization.gpu,memory.used,memory.total || true
    done
fi
