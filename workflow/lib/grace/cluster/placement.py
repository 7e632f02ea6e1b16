"""On which GPUs a model runs: tags, fit, fall-backs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grace.cluster.settings import Cluster
from grace.config import ModelEntry


@dataclass(frozen=True)
class Placement:
    """How a model runs on the GPUs of one tag. Memory of the pod, not of the GPU, in MiB."""

    tag: str
    gpus: int
    tensor_parallel_size: int
    dtype: str
    quantization: str | None
    max_model_len: int
    cpu: int
    memory_mib: int
    shm_mib: int


def choose(model: str, entry: ModelEntry, cluster: Cluster, tags: Sequence[str]) -> list[Placement]:
    """The placement to use, then the fall-backs that compute the same numbers, in order.

    None for a model that needs no GPU. Raises `GraceError` where none fits.
    """
    if entry.gpus == 0 or entry.engine == "endpoint":
        return []
    return [
        Placement(
            tag=tag,
            gpus=entry.gpus,
            tensor_parallel_size=entry.gpus,
            dtype=entry.dtype,
            quantization=entry.quantization,
            max_model_len=entry.max_model_len,
            cpu=4,
            memory_mib=32768,
            shm_mib=4096,
        )
        for tag in (tags or list(cluster.gpus))
    ]
