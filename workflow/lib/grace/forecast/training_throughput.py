"""Seconds of a training by what it computes, with the roofline of `throughput`. Pure.

A pass forward takes 2 FLOP a parameter and token (Kaplan et al. 2020, arXiv:2001.08361, 2.1), and
a whole training 6: as much again for the gradients of what layers pass on, and once more for those
of the weights. An adapter (Hu et al. 2021, arXiv:2106.09685) needs no gradients of the base's
weights, which leaves 4; but on GPUs each layer is computed again on the way back (gradient
checkpointing, Chen et al. 2016, arXiv:1604.06174), which makes it 6 again. DPO reads both answers
of a pair, each with its prompt, and each once more by the reference: 8. The adapter's own numbers,
less than a hundredth, are left out. Each pass over a micro-batch reads all weights once; in 4 bits
(QLoRA) it also writes them in 16 bits and reads them back, since it computes in these (Dettmers et
al. 2023, arXiv:2305.14314, section 3).

None of this was measured on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from grace.forecast.hardware import Hardware
from grace.forecast.model_size import ModelSize
from grace.training.memory import NF4_BYTES
from grace.training.settings import Kind

#: Seconds of a training's process before its first update, without loading weights; measured on
#: two cores (docs/training_modules.md), and twice that, for CUDA's start.
START_S = 20.0
#: Bytes of weights that are loaded in a second, as `throughput.SERVED` has it.
LOAD_BYTES_S = 0.5e9
#: Seconds of a micro-batch that are no arithmetic: Python's calls for every layer and pass.
LAYER_S = 2e-4
#: Bytes of a number in 16 bits.
_HALF = 2


@dataclass(frozen=True)
class TrainingWork:
    """What a training reads.

    Attributes:
        rows: Rows or pairs, each counted as often as it is seen.
        tokens: Ids that are read, all of them together; of a pair both answers, each with its
            prompt.
        micro_batch: Rows or pairs at a time.
    """

    kind: Kind
    rows: float
    tokens: float
    micro_batch: int


def passes(kind: Kind, *, again: bool) -> int:
    """Passes over a token, each of 2 FLOP a parameter; `again`: with gradient checkpointing."""
    return 2 + again + (kind == "dpo")


def training_seconds(
    work: TrainingWork, size: ModelSize, hardware: Hardware, *, four_bits: bool
) -> float:
    """A training on one GPU or on cores, from the process's start to the adapter."""
    gpu = hardware.tag is not None
    each = passes(work.kind, again=gpu)
    context = work.tokens / max(1.0, work.rows * (2 if work.kind == "dpo" else 1)) / 2
    flops = 2 * (size.body + size.head) + 4 * size.width * context
    computed = work.tokens * each * flops / hardware.flops
    batches = work.rows / max(1, work.micro_batch)
    stored = NF4_BYTES * size.weights_bytes / _HALF if four_bits else size.weights_bytes
    unpacked = 2 * size.weights_bytes if four_bits else 0.0
    moved = batches * each * stored / hardware.bandwidth
    unpacking = batches * each * unpacked / hardware.bandwidth
    calls = batches * each * size.layers * LAYER_S
    start = START_S + size.weights_bytes / LOAD_BYTES_S
    return start + max(computed, moved) + unpacking + calls
