# Which cluster the commands speak to. It is that of the config, so that they and Snakemake speak of
# the same one; sourced by common.sh.
# shellcheck shell=bash

# The one reader of YAML that users write is the library's.
plan() { # MODULE of grace.cluster.plan, ARGUMENT...
    local python=.venv/bin/python module=$1
    shift
    [ -x "$python" ] || python=python3
    PYTHONPATH=workflow/lib "$python" -m "grace.cluster.plan.$module" "$@"
}
if [ ! -x .venv/bin/python ] && ! python3 -c 'import pydantic, yaml' 2>/dev/null; then
    die "the Python here cannot read the config." "Set up Grace's own: make setup"
fi

CLUSTER='' OVERLAY='' NAMESPACE='' CONTEXT='' IMAGE='' # by the lines below
# shellcheck disable=SC2034 # for common.sh and what sources it
INSTANCE='' TOKEN_SECRET='' START_PATIENCE_S=''
settings=$(plan shell_settings cluster) || exit
eval "$settings"

# kubectl for this cluster, and for its namespace.
kube() { kubectl ${CONTEXT:+--context "$CONTEXT"} "$@"; }
k() { kube --namespace "$NAMESPACE" "$@"; }

# The overlay, which these commands apply, must say what the entry says, which Snakemake reads.
hold_overlay_to_entry() {
    local entry="config/clusters.yaml, $CLUSTER" folder found
    case $IMAGE in
        registry.example.org/*)
            die "$entry: \`images.default\` is still the placeholder $IMAGE." \
                "Write your image there, and into $OVERLAY/jobs/kustomization.yaml." \
                "docs/kubernetes.md, 'What you need', says how it is built."
            ;;
    esac
    for folder in "$OVERLAY" "$OVERLAY/jobs"; do
        found=$(kubectl kustomize "$folder" | plan overlay namespaces)
        [ "$found" = "$NAMESPACE" ] ||
            die "$entry: \`namespace\` is $NAMESPACE, but $folder/kustomization.yaml says:" \
                "${found:-none}" "Write the same into both."
    done
    found=$(kubectl kustomize "$OVERLAY/jobs" | plan overlay images)
    [ "$found" = "$IMAGE" ] ||
        die "$entry: \`images.default\` is $IMAGE, but $OVERLAY/jobs/kustomization.yaml says:" \
            "${found:-none}" "Write the same into both."
}
