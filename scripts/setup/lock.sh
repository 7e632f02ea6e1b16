#!/usr/bin/env bash
# Renew envs/main.lock, s3.lock, dev.lock, bench.lock, crate.lock, sbom.lock, docs.lock, export.lock,
# train.lock and python.yaml from pyproject.toml: resolve the newest versions that it allows in throw-away environments and write
# them down whole, with the hashes of all files that are published of them, for any platform.
#   scripts/setup/lock.sh             all of that
#   scripts/setup/lock.sh --train     envs/train.lock alone, beside envs/main.lock as it is
#   scripts/setup/lock.sh --export    envs/export.lock alone
#   scripts/setup/lock.sh --hashes    only the hashes, of every lock file, envs/serve.lock and
#                                     serve-cpu.lock too, whose versions are set by hand
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$(find_python)" -m venv "$work/main"
python="$work/main/bin/python"
"$(find_python)" -m venv "$work/lock"

EVERY_EVAL_EVER="every-eval-ever==0.3.0"

# The pins on standard input with their hashes. Without a note of the index that they came from; for
# the newest Python that any of them declares.
hashed() {
    "$work/lock/bin/uv" pip compile --quiet --no-config --no-deps --generate-hashes --no-annotate \
        --no-header --python-version 3.12 -
}

requirements() {
    "$python" - "$1" <<'END'
import sys, tomllib

project = tomllib.load(open("pyproject.toml", "rb"))
wanted = {
    "main": project["project"]["dependencies"],
    "s3": project["project"]["optional-dependencies"]["s3"],
    **project["dependency-groups"],
}
print(*wanted[sys.argv[1]], sep="\n")
END
}

# What is installed in environment $1, without pip itself, torch and what only torch's CUDA builds
# bring.
pins() {
    "$work/$1/bin/python" -m pip freeze |
        grep -viE '^(pip|torch|triton|nvidia-[a-z0-9-]*|cuda-[a-z0-9-]*)='
}

requirements lock >"$work/lock.in"
pip_install "$work/lock" -r "$work/lock.in"
if [ "${1:-}" = --hashes ]; then
    for lock in envs/*.lock; do
        { grep '^#' "$lock" && pins_of "$lock" | hashed; } >"$work/new"
        cp "$work/new" "$lock"
    done
    say "Renewed the hashes in envs/*.lock"
    exit
fi

write() {
    {
        printf '# %s\n' "$2" \
            "Written by scripts/setup/lock.sh from pyproject.toml; complete, so install it with" \
            "  pip install --no-deps --require-hashes -r $1" \
            "${4-and then envs/torch.txt, which is a step of its own.}"
        hashed <"$3"
    } >"$1"
}

# What trains adapters, with the versions of $known: what was trained and what is evaluated then go
# through the same transformers and PEFT.
resolve_train() {
    say "Resolving what trains adapters"
    "$python" -m venv "$work/train"
    requirements train >"$work/train.in"
    pip_install "$work/train" -r envs/torch.txt -c "$known" -r "$work/train.in"
    "$work/train/bin/python" -m pip check
    pins train >"$work/train.pins"
    write envs/train.lock "What trains adapters, in an environment of its own: make train-env." \
        "$work/train.pins"
}

resolve_export() {
    say "Resolving what validates exports"
    "$python" -m venv "$work/export"
    requirements export >"$work/export.in"
    pip_install "$work/export" -r "$work/export.in"
    "$work/export/bin/python" -m pip check
    { pins export && echo "$EVERY_EVAL_EVER"; } | sort -f >"$work/export.pins"
    write envs/export.lock "What validates exports, in an environment of its own: make export-env." \
        "$work/export.pins" "and --ignore-requires-python; without torch."
}

if [ "${1:-}" = --export ]; then
    resolve_export
    say "Wrote envs/export.lock. Now: make export-env"
    exit
fi

if [ "${1:-}" = --train ]; then
    known="$work/main.pins"
    pins_of envs/main.lock >"$known"
    resolve_train
    say "Wrote envs/train.lock. Now: make train-env"
    exit
fi

say "Resolving the main packages"
pip_install "$work/main" -r envs/torch.txt
requirements main >"$work/main.in"
pip_install "$work/main" -r envs/torch.txt -r "$work/main.in"
pins main >"$work/main.pins"

# Write to $1.pins what dependency group $1 needs in environment $2 beyond the packages that were
# there; $known has these.
known="$work/main.pins"
resolve() {
    requirements "$1" >"$work/$1.in"
    pip_install "$work/$2" -r envs/torch.txt -c "$known" -r "$work/$1.in"
    "$work/$2/bin/python" -m pip check
    pins "$2" | grep -vxFf "$known" >"$work/$1.pins"
}

say "Resolving files over S3"
resolve s3 main

say "Resolving the developers' tools"
cat "$work/main.pins" "$work/s3.pins" >"$work/known.pins"
known="$work/known.pins"
resolve dev main
known="$work/main.pins"

say "Resolving what the benchmark compares with"
"$python" -m venv "$work/bench"
pip_install "$work/bench" -r envs/torch.txt
pip_install "$work/bench" --no-deps -r "$work/main.pins"
resolve bench bench

say "Resolving what checks archives, lists components, and builds the documentation"
for group in crate sbom docs; do
    "$python" -m venv "$work/$group"
    requirements "$group" >"$work/$group.in"
    pip_install "$work/$group" -r "$work/$group.in"
    "$work/$group/bin/python" -m pip check
    pins "$group" >"$work/$group.pins"
done

write envs/main.lock "Grace's main environment: the library, Snakemake, transformers." "$work/main.pins"
write envs/s3.lock "Files over S3, beyond envs/main.lock: scripts/setup/python.sh --s3." "$work/s3.pins"
write envs/dev.lock "What the tests and linters need beyond envs/main.lock and envs/s3.lock." \
    "$work/dev.pins"
write envs/bench.lock "What \`make bench\` compares with, beyond envs/main.lock." "$work/bench.pins"
write envs/crate.lock \
    "What checks archives against RO-Crate's profiles, in an environment of its own." \
    "$work/crate.pins" "without torch."
write envs/sbom.lock "What lists Grace's components, in an environment of its own: make sbom." \
    "$work/sbom.pins" "without torch."
write envs/docs.lock "What builds the documentation's site, in an environment of its own: make docs." \
    "$work/docs.pins" "without torch."
resolve_export
resolve_train

{
    echo "# The packages of envs/torch.txt and envs/main.lock as a conda environment, for \`--sdm conda\`."
    echo "# Written by scripts/setup/lock.sh. The pins are pip's in both, so both run the same code."
    echo "# Without hashes: conda gives pip one list, and torch, which cannot have them, is in it."
    printf '%s\n' "name: grace" "channels:" "  - conda-forge" "  - nodefaults" "dependencies:" \
        "  - python =$OLDEST_PYTHON" "  - pip" "  - pip:"
    sed '/^#/d; s/^/      - /' envs/torch.txt "$work/main.pins"
} >envs/python.yaml
say "Wrote envs/main.lock, s3.lock, dev.lock, bench.lock, crate.lock, sbom.lock, docs.lock, export.lock," \
    "train.lock and python.yaml. Now: make test"
