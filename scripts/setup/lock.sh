#!/usr/bin/env bash
# Renew envs/main.lock, envs/dev.lock and envs/python.yaml from pyproject.toml: resolve the newest
# versions that it allows in a throw-away environment and write them down whole.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$(find_python)" -m venv "$work/venv"
python="$work/venv/bin/python"

requirements() {
    "$python" - "$1" <<'END'
import sys, tomllib

project = tomllib.load(open("pyproject.toml", "rb"))
wanted = {
    "main": project["project"]["dependencies"],
    "dev": project["dependency-groups"]["dev"],
}
print(*wanted[sys.argv[1]], sep="\n")
END
}

# What is installed, without pip itself, torch and what only torch's CUDA builds bring.
pins() {
    "$python" -m pip freeze | grep -viE '^(pip|torch|triton|nvidia-[a-z0-9-]*|cuda-[a-z0-9-]*)='
}

install() { pip_install "$work/venv" "$@"; }

say "Resolving the main packages"
install -r envs/torch.txt
requirements main >"$work/main.in"
install -r envs/torch.txt -r "$work/main.in"
pins >"$work/main.pins"

say "Resolving the developers' tools"
requirements dev >"$work/dev.in"
install -r envs/torch.txt -c "$work/main.pins" -r "$work/dev.in"
pins | grep -vxFf "$work/main.pins" >"$work/dev.pins"

"$python" -m pip check

write() {
    {
        printf '# %s\n' "$2" \
            "Written by scripts/setup/lock.sh from pyproject.toml; complete, so install it with" \
            "  pip install --no-deps -r $1" \
            "after envs/torch.txt, which is a step of its own."
        cat "$3"
    } >"$1"
}
write envs/main.lock "Grace's main environment: the library, Snakemake, transformers." "$work/main.pins"
write envs/dev.lock "What the tests and linters need beyond envs/main.lock." "$work/dev.pins"

{
    echo "# The packages of envs/torch.txt and envs/main.lock as a conda environment, for \`--sdm conda\`."
    echo "# Written by scripts/setup/lock.sh. The pins are pip's in both, so both run the same code."
    printf '%s\n' "name: grace" "channels:" "  - conda-forge" "  - nodefaults" "dependencies:" \
        "  - python =$OLDEST_PYTHON" "  - pip" "  - pip:"
    sed 's/^/      - /' envs/torch.txt "$work/main.pins"
} >envs/python.yaml
say "Wrote envs/main.lock, envs/dev.lock and envs/python.yaml. Now: make test"
