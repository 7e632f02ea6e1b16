"""Seconds for so many tokens of a model on some hardware: a roofline. Pure.

Reading tokens many at a time is bound by arithmetic: 2 FLOP a parameter and token (Kaplan et al.
2020, arXiv:2001.08361, 2.1). Sampling one after the other is bound by memory: each step reads the
weights and the cache of all answers under way once (Pope et al. 2022, arXiv:2211.05102; rooflines:
Williams et al. 2009, doi:10.1145/1498765.1498785). What is neither, Python, HTTP, kernels' starts,
is counted a request, a read and a step.
"""

from __future__ import annotations

from dataclasses import dataclass

from grace.cluster.plan.placement import ACTIVATIONS_GIB
from grace.engines.spec import EngineSpec
from grace.forecast.hardware import Hardware
from grace.forecast.model_size import ModelSize

#: Seconds that GPUs take to agree on a layer's half, however little it holds, twice a layer.
_REDUCE_S = 2e-5
#: Bytes of a number that passes between GPUs.
_LINK_NUMBER = 2


@dataclass(frozen=True)
class Work:
    """What one experiment asks, in tokens.

    Attributes:
        requests: Answers, or distinct queries, those that are read again included.
        read_tokens: Tokens that are read many at a time: prompts, forests of options.
        context: Tokens that each token attends to, on average.
        reads: Places at which probabilities are read.
        new_tokens: Tokens sampled, all answers together.
        estimated: The tokeniser is not on this machine, or was not asked.
        again: Of the requests, second readings (`grace.experiments.rereading`).
    """

    requests: int
    read_tokens: int
    context: float
    reads: int
    new_tokens: float = 0.0
    estimated: bool = False
    again: int = 0


@dataclass(frozen=True)
class Overheads:
    """Seconds that are no arithmetic.

    Attributes:
        start: Of a start, without loading weights.
        load: Bytes of weights that are loaded in a second.
        job: Of a job beside the model: Snakemake, Python, libraries.
        request: Of a request.
        read: Of a place at which probabilities are read.
        step: Of a step of sampling, whatever is in it.
        step_layer: Of each layer in it.
        token: Of a token that is sampled, in the process that samples.
        first: Of a job's first passes: kernels are chosen, ways of reading compared.
    """

    start: float
    load: float
    job: float
    request: float
    read: float
    step: float
    step_layer: float
    token: float
    first: float = 0.0


#: A server's start is vLLM's, with compiled kernels and CUDA graphs; weights come over a network
#: volume. One HTTP request an answer; many reads a request.
SERVED = Overheads(90.0, 0.5e9, 10.0, 4e-3, 1e-3, 4e-3, 0.0, 0.0)
#: In a process of ours: a pass is Python's calls for every layer. A start imports torch.
IN_PROCESS = Overheads(5.0, 0.5e9, 3.0, 3e-3, 0.0, 1e-3, 2e-4, 1e-4, 1.0)
#: Tokens a second of one answer from somebody else's server, and seconds to its first: what public
#: services promise.
REMOTE_TOKENS_S, REMOTE_FIRST_S = 40.0, 1.0


def overheads(spec: EngineSpec) -> Overheads:
    """Those of an engine that computes here."""
    return SERVED if spec.runs_server else IN_PROCESS


def start_seconds(size: ModelSize, costs: Overheads) -> float:
    """A start of the model, its weights from disk included."""
    return costs.start + size.weights_bytes / costs.load


def seconds(
    work: Work, size: ModelSize, hardware: Hardware, costs: Overheads, concurrency: int
) -> float:
    """An experiment, once the model is there. `concurrency` is the most requests at a time."""
    return (
        _reading(work, size, hardware)
        + _sampling(work, size, hardware, costs, concurrency)
        + work.requests * costs.request
        + work.reads * costs.read
        + costs.first
    )


def remote_seconds(work: Work, concurrency: int) -> float:
    """An experiment on somebody else's server, which is as fast as it is."""
    at_once = max(1, min(concurrency, work.requests))
    each = REMOTE_FIRST_S + work.new_tokens / max(1, work.requests) / REMOTE_TOKENS_S
    return work.requests * each / at_once


def batch(work: Work, size: ModelSize, hardware: Hardware, concurrency: int) -> int:
    """Answers that are under way at once: as many as are asked and as the cache has room for."""
    most = max(1, min(concurrency, work.requests))
    if hardware.memory_bytes is None:
        return most
    room = hardware.memory_bytes - size.weights_bytes - ACTIVATIONS_GIB * 2**30 * hardware.count
    each = work.context * size.cache_bytes
    return max(1, min(most, int(room / each))) if each > 0 else most


def _flops(size: ModelSize, context: float) -> float:
    """FLOP of one token of the body: its weights, and attention to its context."""
    return 2 * size.body + 4 * size.width * context


def _traffic(size: ModelSize, hardware: Hardware) -> float:
    """Seconds that one token's numbers pass between GPUs: two sums a layer, in a ring."""
    if hardware.link is None:
        return 0.0
    share = 2 * (hardware.count - 1) / hardware.count
    return 2 * size.width * _LINK_NUMBER * share / hardware.link


def _reading(work: Work, size: ModelSize, hardware: Hardware) -> float:
    flops = work.read_tokens * _flops(size, work.context) + work.reads * 2 * size.head
    return flops / hardware.flops + work.read_tokens * _traffic(size, hardware)


def _sampling(
    work: Work, size: ModelSize, hardware: Hardware, costs: Overheads, concurrency: int
) -> float:
    if not work.new_tokens:
        return 0.0
    rows = batch(work, size, hardware, concurrency)
    steps = work.new_tokens / rows  # an answer that ends leaves its place to the next
    # Of a mixture, a step takes every expert that any of its answers takes.
    touched = 1 - (1 - size.active) ** rows
    moved = size.weights_bytes * touched + rows * work.context * size.cache_bytes
    computed = rows * (_flops(size, work.context) + 2 * size.head)
    step = max(moved / hardware.bandwidth, computed / hardware.flops)
    step += costs.step + costs.step_layer * size.layers
    if hardware.link is not None:
        step += rows * _traffic(size, hardware) + 2 * size.layers * _REDUCE_S
    return steps * step + work.new_tokens * costs.token
