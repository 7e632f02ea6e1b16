#!/usr/bin/env bash
# The serving environment: .venv-serve with vLLM, for `engine: vllm`. On a machine with an NVIDIA
# GPU it gets the CUDA build (envs/serve.lock), elsewhere the CPU build (envs/serve-cpu.lock and
# torch). GRACE_SERVE=cpu or GRACE_SERVE=cuda decides by hand.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

venv=.venv-serve
flavour=${GRACE_SERVE:-}
if [ -z "$flavour" ]; then
    if nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then flavour=cuda; else flavour=cpu; fi
fi

case $flavour in
    cpu) sources=(envs/torch.txt envs/serve-cpu.lock) ;;
    cuda) sources=(envs/serve.lock) ;;
    *) die "GRACE_SERVE is '$flavour', but must be cpu or cuda." ;;
esac
mark="$venv/.stamp-$flavour"

ensure_venv "$venv"
if fresh "$mark" "${sources[@]}"; then
    exit 0
fi

# The two builds must not share an environment: CUDA's torchvision beside CPU torch breaks vLLM.
if compgen -G "$venv/.stamp-*" >/dev/null && [ ! -f "$mark" ]; then
    rm -rf "$venv"
    ensure_venv "$venv"
fi

if [ "$flavour" = cuda ]; then
    say "Found an NVIDIA GPU. Installing vLLM for CUDA in $venv (about 10 GB; several minutes)"
    install_lock "$venv" envs/serve.lock
else
    say "Found no NVIDIA GPU. Installing vLLM for the CPU in $venv (about 2.5 GB; a few minutes)"
    install_lock "$venv" envs/serve-cpu.lock
    install_torch "$venv" envs/serve-cpu.lock
fi
stamp "$mark" "${sources[@]}"
say "The serving environment is ready: snakemake --config engine=vllm"
