# Which cluster the commands speak to. It is that of the config, so that they and Snakemake speak of
# the same one; sourced by common.sh.
# shellcheck shell=bash disable=SC2016 # dollars of Go templates

# kubectl reads the YAML, as a part of an object that never leaves this machine: there is no other
# program that reads it wherever these commands run.
read_yaml() { # FILE GO-TEMPLATE, in which the file is `.values`
    {
        echo 'values:'
        sed '/^---/d; s/^/  /' "$1"
        printf '\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: read}\n'
    } | kubectl annotate --local --filename - --output "go-template=$2" read=here ||
        die "$1 cannot be read; kubectl's words are above; it counts lines from 2."
}

# A text in a YAML file, below these keys; DEFAULT where there is none. null is as good as nothing
# where nothing is the default.
text_of() { # FILE DEFAULT KEY...
    local file=$1 default=$2 found key down='' up=''
    shift 2
    for key in "$@"; do
        down+="{{range \$k, \$v := \$v}}{{if eq \$k \"$key\"}}"
        up+='{{end}}{{end}}'
    done
    local text='{{$type := printf "%T" $v}}{{if eq $type "string"}}={{$v}}{{else}}{{$type}}{{end}}'
    found=$(read_yaml "$file" "{{\$v := .values}}$down$text$up") || exit
    case $found in
        '') echo "$default" ;;
        =?*) echo "${found#=}" ;;
        *)
            [ "$found-$default" = '<nil>-' ] ||
                die "$file, \`$(IFS=. && echo "$*")\` must be a text, and not an empty one." \
                    "Write one, or leave the line out${default:+ for '$default'}."
            ;;
    esac
}

CLUSTER=$(text_of config/config.yaml nrp cluster)
[[ $CLUSTER =~ ^[A-Za-z0-9][A-Za-z0-9._-]*$ ]] ||
    die "config/config.yaml, \`cluster\`: '$CLUSTER' is no name of a cluster." \
        "Allowed: letters, digits, '.', '_' and '-'."
OVERLAY=workflow/kubernetes/overlays/$CLUSTER
[ -d "$OVERLAY" ] || die "there is no folder $OVERLAY for the cluster '$CLUSTER'." \
    "Copy one of workflow/kubernetes/overlays, or name another in config/config.yaml: cluster."
held=$(read_yaml config/clusters.yaml '{{range $name, $entry := .values}} {{$name}}{{end}}')
case "$held " in
    *" $CLUSTER "*) ;;
    *) die "config/config.yaml, \`cluster\`: config/clusters.yaml has no entry '$CLUSTER'." \
        "It holds:$held. Copy one of them under that name." ;;
esac
NAMESPACE=$(text_of config/clusters.yaml default "$CLUSTER" namespace)
CONTEXT=$(text_of config/clusters.yaml "" "$CLUSTER" context)
IMAGE=$(text_of config/clusters.yaml grace:latest "$CLUSTER" images default)

# kubectl for this cluster, and for its namespace.
kube() { kubectl ${CONTEXT:+--context "$CONTEXT"} "$@"; }
k() { kube --namespace "$NAMESPACE" "$@"; }

# A part of each object of a kustomization, by a Go template; each once.
parts_of() { # FOLDER GO-TEMPLATE
    kubectl kustomize "$1" |
        kubectl annotate --local --filename - --output "go-template=$2" read=here | sort -u
}

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
        found=$(parts_of "$folder" '{{with .metadata.namespace}}{{.}}{{"\n"}}{{end}}')
        [ "$found" = "$NAMESPACE" ] ||
            die "$entry: \`namespace\` is $NAMESPACE, but $folder/kustomization.yaml says:" \
                "${found:-none}" "Write the same into both."
    done
    found=$(parts_of "$OVERLAY/jobs" '{{define "image"}}{{(index .containers 0).image}}{{"\n"}}{{end}}
        {{- with .spec}}{{with .template}}{{template "image" .spec}}{{else}}{{template "image" .}}
        {{- end}}{{end}}')
    [ "$found" = "$IMAGE" ] ||
        die "$entry: \`images.default\` is $IMAGE, but $OVERLAY/jobs/kustomization.yaml says:" \
            "${found:-none}" "Write the same into both."
}
