"""The vLLM server of a model: its command line, its environment, and what it needs to run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from grace.contents import Contents
from grace.engines.vllm.lora_modules import lora_modules
from grace.errors import EngineError
from grace.models.chat import model_source, tokenizer_source
from grace.models.files import check_weights
from grace.models.identity import ModelIdentity
from grace.places import located
from grace.serving.lease import Lease, lease_server, require_free_port
from grace.serving.spec import ServerSpec
from grace.serving.state_dir import host_dir, port_owner
from grace.settings.config import ModelEntry, ServingConfig

Build = Literal["cpu", "gpu"]

CPU_BLOCK = 32
"""Tokens in a block of the prefix cache on CPUs: vLLM's own 128 would compute most of a short
prompt again for every read, and it does not start with 16."""
_SCORES_TEXTS = (0, 32)
"""The first release known to score ids all along a prompt, at an endpoint that a flag opens."""
IMAGE_ENVIRONMENT = "GRACE_SERVE_ENVIRONMENT"
"""Variable with which an image (envs/Containerfile) says where its serving environment is."""
_STRUCTURED_OUTPUTS = '{"backend": "xgrammar", "disable_any_whitespace": true}'
"""What holds replies to a JSON schema: without white space, of which a small model may otherwise
write until its reply is cut off."""
_MOST_LOGPROBS = 128
"""Ids at one place of such a prompt; vLLM allows 20 by default."""


def server_arguments(
    model_key: str, entry: ModelEntry, serving: ServingConfig, root: Path
) -> list[str]:
    """Arguments of vLLM's OpenAI server; `{port}` stands where the port belongs.

    Everything that could change an answer is said here rather than left to a default. Model
    folders are looked for below `root`; raises `EngineError` where one is missing.
    """
    source = model_source(entry.name, root.absolute())
    local = source != entry.name
    arguments = ["--model", source]
    arguments += ["--served-model-name", model_key]
    arguments += ["--host", "127.0.0.1", "--port", "{port}"]
    arguments += ["--dtype", entry.dtype, "--max-model-len", str(entry.max_model_len)]
    if entry.revision is not None and not local:
        arguments += ["--revision", entry.revision]
        if entry.tokenizer is None:
            arguments += ["--tokenizer-revision", entry.revision]
    if entry.tokenizer is not None:
        tokenizer, revision = tokenizer_source(entry, root.absolute())
        arguments += ["--tokenizer", tokenizer]
        if tokenizer == entry.tokenizer:
            arguments += ["--tokenizer-revision", revision]
    if entry.quantization is not None:
        arguments += ["--quantization", entry.quantization]
    if entry.gpus > 1:
        shared_by = entry.tensor_parallel_size or entry.gpus
        arguments += ["--tensor-parallel-size", str(shared_by)]
        if shared_by < entry.gpus:
            arguments += ["--pipeline-parallel-size", str(entry.gpus // shared_by)]
    if entry.gpus == 0:
        arguments += ["--enforce-eager"]  # starts sooner; compiling pays on GPUs only
        arguments += ["--block-size", str(CPU_BLOCK)]
        # vLLM 0.32 dies on a CPU where it reads the prompt of a request with a seed in parts.
        arguments += ["--no-enable-chunked-prefill"]
    if _release(vllm_version(serving, root)) >= _SCORES_TEXTS:
        arguments += ["--enable-scale-out", "--max-logprobs", str(_MOST_LOGPROBS)]
        arguments += ["--structured-outputs-config", _STRUCTURED_OUTPUTS]
    # No sampling defaults from the model's generation_config.json (its stop tokens stay), and
    # log-probabilities as the model has them, before temperature and penalties.
    arguments += ["--generation-config", "vllm", "--logprobs-mode", "raw_logprobs"]
    arguments += ["--seed", "0", "--disable-uvicorn-access-log"]
    # Nothing that a model brings along is run: neither its Python nor pickled weights.
    arguments += ["--no-trust-remote-code", "--load-format", "safetensors"]
    return [*arguments, *serving.extra_args]


def hardware_facts(
    model_key: str, entry: ModelEntry, serving: ServingConfig, root: Path
) -> dict[str, Any]:
    """GPUs that the server of a model computes with, and the CUDA runtime of its environment.

    Raises `EngineError` where there is no vLLM.
    """
    arguments = server_arguments(model_key, entry, serving, root)
    tensor = _size(arguments, "--tensor-parallel-size", "-tp")
    copies = _size(arguments, "--pipeline-parallel-size", "-pp")
    copies *= _size(arguments, "--data-parallel-size", "-dp")
    return {
        "gpus": tensor * copies if entry.gpus else 0,
        "tensor_parallel_size": tensor,
        "cuda": _cuda_version(serving, root) if entry.gpus else None,
    }


def _size(arguments: list[str], *names: str) -> int:
    """What vLLM makes of an argument for a number of GPUs: of several the last, of none 1."""
    size = 1
    for index, argument in enumerate(arguments):
        name, given, value = argument.partition("=")
        if name.replace("_", "-") in names:
            value = value if given else "".join(arguments[index + 1 : index + 2])
            size = int(value) if value.isdecimal() else size
    return size


def _cuda_version(serving: ServingConfig, root: Path) -> str | None:
    """CUDA's version in the serving environment's torch, read without starting its Python."""
    for path in _environment(serving, root).glob("lib/python3*/site-packages/torch/version.py"):
        found = re.search(r"^cuda\b[^=\n]*=\s*['\"]([^'\"\n]+)", path.read_text("utf-8"), re.M)
        return found[1] if found else None
    return None


def server_environment(entry: ModelEntry, root: Path) -> dict[str, str]:
    """Environment variables that the server gets on top of the job's."""
    variables = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if entry.gpus == 0:
        variables["VLLM_CPU_KVCACHE_SPACE"] = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
        # Otherwise the first log-probabilities wait up to a minute for a C++ compiler, which a
        # machine need not have.
        variables["TORCH_COMPILE_DISABLE"] = "1"
    # Said either way: what a shell happens to export must not decide it unseen.
    variables["VLLM_BATCH_INVARIANT"] = "1" if entry.batch_invariant else "0"
    if located(entry.name, root).is_dir():
        variables["HF_HUB_OFFLINE"] = "1"
    return variables


def server_spec(
    model_key: str,
    entry: ModelEntry,
    serving: ServingConfig,
    root: Path,
    contents: Contents | None = None,
    sharing: Mapping[str, ModelEntry] | None = None,
) -> ServerSpec:
    """The server of a model, for the lease; of all those in `sharing` it is the same.

    Raises `EngineError` where it cannot run here, `ConfigError` for an adapter of another base.
    """
    check(model_key, entry, serving, root)
    version = vllm_version(serving, root)
    contents = contents or Contents()
    model = ModelIdentity(entry, serving.extra_args, root, contents)
    identity = model.server(version)
    # Its adapter is one of the server's.
    identity.pop("adapter", None)
    modules = lora_modules(model_key, entry, sharing or {}, root, contents)
    served = modules.base if modules else model_key
    return ServerSpec(
        name=modules.server if modules else model_key,
        command=(
            str(_python(serving, root)),
            "-m",
            "vllm.entrypoints.openai.api_server",
            *server_arguments(served, entry, serving, root),
            *(modules.arguments() if modules else ()),
        ),
        idle_s=serving.idle_s,
        start_timeout_s=serving.start_timeout_s,
        port=serving.port,
        environment=server_environment(entry, root),
        identity={
            "vllm": f"{_build(serving, root)} {version}",
            "devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "model": json.dumps(identity, sort_keys=True),
            **({"adapters": modules.identity()} if modules else {}),
        },
    )


@contextmanager
def lease(
    model_key: str,
    entry: ModelEntry,
    serving: ServingConfig,
    *,
    journal_dir: Path,
    log_dir: Path,
    root: Path = Path(),
    contents: Contents | None = None,
    sharing: Mapping[str, ModelEntry] | None = None,
) -> Iterator[Lease]:
    """Hold a model's vLLM server; see `lease_server`. It answers for all models in `sharing`.

    Folders in `entry` and `serving` are below `root`, the current folder by default. `contents`
    knows the digests of the model's files, if they were taken before.

    Raises `EngineError` at once where vLLM or a GPU is missing or the fixed port is taken, and
    with the server's last log lines where it does not start.
    """
    spec = server_spec(model_key, entry, serving, root, contents, sharing)
    with lease_server(spec, journal_dir=journal_dir, log_dir=log_dir) as held:
        yield held


def check(model_key: str, entry: ModelEntry, serving: ServingConfig, root: Path) -> None:
    """Raise `EngineError` where vLLM is missing, weights are pickled or there are too few GPUs."""
    folder = located(entry.name, root)
    if folder.is_dir():
        check_weights(folder, f"config/models.yaml: model '{model_key}'")
    if entry.gpus > 0:
        present = gpu_count()
        if present < entry.gpus:
            raise EngineError(
                f"config/models.yaml: model '{model_key}' needs {entry.gpus} GPU(s), this machine"
                f" offers {present or 'none'}. Run it where there are enough, or set `gpus: 0` to"
                " run it on the CPU."
            )
        if _build(serving, root) == "cpu":
            raise EngineError(
                f"serving.environment: {serving.environment} holds vLLM for CPUs, but model"
                f" '{model_key}' is to run on {entry.gpus} GPU(s). Rebuild it on this machine:"
                " `make serve-env`."
            )
    elif _build(serving, root) == "gpu":
        raise EngineError(
            f"serving.environment: {serving.environment} holds vLLM for GPUs, but model"
            f" '{model_key}' is to run on the CPU (`gpus: 0`). Set `gpus: 1`, or build"
            " vLLM for CPUs: `make serve-env`."
        )


def preflight(
    model_key: str, entry: ModelEntry, serving: ServingConfig, *, journal_dir: Path, root: Path
) -> None:
    """Find at once, before anything is loaded, why the server could not start.

    Raises `EngineError`: vLLM missing, too few GPUs, or the fixed port taken by someone else.
    """
    if serving.port is not None:
        # A server of ours on this port is either this model's, or gone when its turn has come.
        folder = host_dir(journal_dir)
        if port_owner(folder, serving.port) is None:
            require_free_port(serving.port, folder)
    check(model_key, entry, serving, root)
    server_arguments(model_key, entry, serving, root)


def vllm_version(serving: ServingConfig, root: Path) -> str:
    """Version of the installed vLLM, for example `0.32.0`. Raises `EngineError`."""
    return _distribution(serving, root).name.removesuffix(".dist-info").split("-")[1]


def _release(version: str) -> tuple[int, ...]:
    """The first two numbers of a version; none where it is not made of numbers."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()


def gpu_count() -> int:
    """GPUs that this process may use; 0 where there is no NVIDIA driver.

    Asks `nvidia-smi`, since the main environment's torch knows no GPUs.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1", "NoDevFiles"):
        return 0
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    present = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return present if visible is None else min(present, len(visible.split(",")))


def _environment(serving: ServingConfig, root: Path) -> Path:
    """The serving environment: as configured or, where that is not there, the image's own."""
    configured = located(serving.environment, root).absolute()
    of_image = os.environ.get(IMAGE_ENVIRONMENT)
    return Path(of_image) if of_image and not configured.exists() else configured


def _python(serving: ServingConfig, root: Path) -> Path:
    return _environment(serving, root) / "bin" / "python"


def _distribution(serving: ServingConfig, root: Path) -> Path:
    """The metadata folder of the installed vLLM, read without starting its Python (seconds)."""
    folder = _environment(serving, root)
    found = [
        path
        for name in ("vllm", "vllm_cpu")
        for path in folder.glob(f"lib/python3*/site-packages/{name}-*.dist-info")
    ]
    if not found or not _python(serving, root).exists():
        raise EngineError(
            f"serving.environment: there is no vLLM in {folder}. Build it with `make serve-env`, or"
            " choose another engine, for example `--config engine=transformers`."
        )
    return found[0]


def _build(serving: ServingConfig, root: Path) -> Build:
    """Which vLLM is installed. The CPU build is a package of its own, or a `+cpu` version."""
    name = _distribution(serving, root).name
    return "cpu" if name.startswith("vllm_cpu-") or "+cpu" in name else "gpu"
