#!/usr/bin/env bash
# The main environment: .venv with the library's dependencies, Snakemake and CPU torch.
#   scripts/setup/python.sh           what `make run` needs
#   scripts/setup/python.sh --s3      and files over S3, for clusters whose volume is out of reach
#   scripts/setup/python.sh --dev     and the tools that `make test` needs
#   scripts/setup/python.sh --bench   what `make bench` needs, in an environment of its own, since
#                                     transformers takes other paths where some of it is installed
#   scripts/setup/python.sh --crate   what checks archives, in an environment of its own
#   scripts/setup/python.sh --sbom    what lists components, in an environment of its own
#   scripts/setup/python.sh --docs    what builds the documentation's site, in an environment of its own
#   scripts/setup/python.sh --export  what validates exports, in an environment of its own
#   scripts/setup/python.sh --train   what trains adapters, in an environment of its own, with torch
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

venv=.venv
locks=(envs/main.lock)
torch=yes
lenient=()
case "${1:-}" in
    --s3) locks+=(envs/s3.lock) ;;
    --dev) locks+=(envs/s3.lock envs/dev.lock) ;;
    --bench) venv=.venv-bench && locks+=(envs/bench.lock) ;;
    --crate) venv=.venv-crate && locks=(envs/crate.lock) && torch=no ;;
    --sbom) venv=.venv-sbom && locks=(envs/sbom.lock) && torch=no ;;
    --docs) venv=.venv-docs && locks=(envs/docs.lock) && torch=no ;;
    # A package declares a newer Python than it needs (pyproject.toml).
    --export) venv=.venv-export && locks=(envs/export.lock) && torch=no && lenient=(--ignore-requires-python) ;;
    --train) venv=.venv-train && locks=(envs/train.lock) ;;
esac

# What the packages of a lock file take when they are installed, measured for CPUs; nothing where it was not.
size_of() {
    case $1 in
        envs/main.lock) echo " (0.8 GB)" ;;
        envs/dev.lock) echo " (0.3 GB)" ;;
        envs/export.lock) echo " (0.3 GB)" ;;
        envs/docs.lock) echo " (0.2 GB)" ;;
        envs/crate.lock | envs/sbom.lock) echo " (0.1 GB)" ;;
    esac
}

if [ $venv = .venv ] && ! [ -f $venv/.stamp-torch ]; then
    say "Setting up $venv: 1.6 GB for CPUs, more with CUDA; a few minutes (6 on two busy cores), this once." \
        "Ctrl-C stops it; the same command goes on."
fi
ensure_venv "$venv"

stale=()
for lock in "${locks[@]}"; do
    if ! fresh "$venv/.stamp-$(basename "$lock")" "$lock" envs/torch.txt; then
        say "Installing the $(pins_of "$lock" | wc -l) packages of $lock in $venv$(size_of "$lock");" \
            "pip's own words are in $venv/setup.log"
        install_lock "$venv" "$lock" "${lenient[@]}"
        stale+=("$lock")
    fi
done

# torch is a step of its own, with dependencies: the build that a machine takes decides which
# further packages it needs, so those are not in the lock.
if [ $torch = yes ] && ! fresh "$venv/.stamp-torch" envs/torch.txt; then
    say "Installing $(grep -v '^#' envs/torch.txt), the largest package (0.8 GB for CPUs, more with CUDA)"
    install_torch "$venv" "${locks[0]}"
    stamp "$venv/.stamp-torch" envs/torch.txt
fi

if [ ${#stale[@]} -gt 0 ]; then
    [ ${#lenient[@]} -gt 0 ] || "$venv/bin/python" -m pip check ||
        die "the packages of ${stale[*]} do not fit together; please report this."
    for lock in "${stale[@]}"; do
        stamp "$venv/.stamp-$(basename "$lock")" "$lock" envs/torch.txt
    done
fi

# The library is used from the checkout, never installed (pyproject.toml says why).
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
printf '%s\n' "$PWD/workflow/lib" >"$site/grace.pth"
