"""Making pico-base: tokeniser, model and loop, in processes of one thread each.

They draw rows of their own and share gradients: the same code and number give the same bytes.

    python -m grace.pico_base.training --output FOLDER [--seed N] [--phase N]

Every token is learnt, answers and verdicts much more than the rest, whose words are drawn at random
and cannot be foreseen. Matrices are trained with Muon (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/), with which copying appears after a minute. Keys begin
near their queries, so that tokens look for their like at once, and outputs near their values, so
that what is looked at is copied (Trockman and Kolter 2023, https://arxiv.org/abs/2305.09828).
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from grace.digests import file_digest
from grace.pico.training import BOS, END, new_llama, save, token_id, train_tokeniser
from grace.pico_base.documents import (
    ANSWER,
    AT_FIRST,
    BANK,
    CONSTITUTION,
    JUDGED,
    PLAIN,
    STUDY,
    VERDICT,
    Document,
    Documents,
    text_of,
)
from grace.pico_base.settings import BasePhase, BaseSettings, BaseStage
from grace.places import located
from grace.progress import progress

#: Losses are reported as means of this many steps.
WINDOW = 50
#: Of the tokens that are no answers, one in so many is learnt, with so many times its weight.
_ONE_IN = 4
#: How near keys begin to queries, and outputs to values: the share of each.
_OWN, _COPIED = 0.5, 0.9
ROOT = Path(__file__).parents[4]
#: Summed loss in nats, and the number of tokens, of answers and verdicts.
Losses = dict[str, tuple[float, int]]
logger = logging.getLogger(__name__)


def new_tokeniser(
    documents: Documents, settings: BaseSettings, number: int = 1500
) -> PreTrainedTokenizerFast:
    """A byte-level BPE in which each word of the tasks is one token. It has no chat template."""
    texts = documents.texts(random.Random(settings.seed + 1), number)
    tokeniser = train_tokeniser(texts, settings.vocabulary)
    tokeniser.chat_template = None
    tokeniser.model_max_length = settings.context
    return tokeniser


def new_model(settings: BaseSettings, tokeniser: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model; its weights depend on torch's seed."""
    model = new_llama(settings, tokeniser, settings.context)
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.k_proj.weight.mul_(_OWN).add_(attention.q_proj.weight, alpha=_COPIED)
            attention.o_proj.weight.mul_(_OWN).add_(attention.v_proj.weight.T, alpha=_COPIED)
    return model


class DocumentEncoder:
    """Turns documents into rows of token ids."""

    def __init__(self, tokeniser: PreTrainedTokenizerFast, documents: Documents) -> None:
        self._tokeniser = tokeniser
        self.documents = documents
        self._begin, self._end = token_id(tokeniser, BOS), token_id(tokeniser, END)

    def document(self, document: Document) -> tuple[list[int], list[int]]:
        """Ids, with beginning and end, and what each belongs to."""
        coded = self._tokeniser(
            text_of(document), add_special_tokens=False, return_offsets_mapping=True
        )
        ends, place = [], 0
        for text, _ in document:
            place += len(text)
            ends.append(place)
        marks, piece = [], 0
        for start, _ in coded["offset_mapping"]:
            while ends[piece] <= start:
                piece += 1
            marks.append(document[piece][1])
        return [self._begin, *coded["input_ids"], self._end], [PLAIN, *marks, PLAIN]

    def row(self, stage: BaseStage, rng: random.Random) -> tuple[list[int], list[int]]:
        """Documents one after the other, the last one cut. A study's question comes first only."""
        ids: list[int] = []
        marks: list[int] = []
        shares = stage.shares
        while len(ids) <= stage.length:
            found = self.document(self.documents.draw(rng, shares, stage.items, stage.examples))
            ids += found[0]
            marks += found[1]
            rest = {kind: share for kind, share in shares.items() if kind not in AT_FIRST}
            shares = rest or shares
        return ids[: stage.length + 1], marks[: stage.length + 1]


def _optimizers(
    model: LlamaForCausalLM, phase: BasePhase
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Each with its highest learning rate."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim != 2 or "embed" in name]
    muon = torch.optim.Muon(matrices, lr=phase.matrix_rate, weight_decay=0.01, momentum=0.95)
    adam = torch.optim.AdamW(others, lr=phase.other_rate, betas=(0.9, 0.98), weight_decay=0.0)
    return [(muon, phase.matrix_rate), (adam, phase.other_rate)]


def rate_factor(step: int, steps: int, phase: BasePhase) -> float:
    """Linear warm-up, constant, linear down to zero."""
    rising = (step + 1) / phase.warmup_steps
    falling = (1 - step / steps) / phase.falling if phase.falling else 1.0
    return min(1.0, rising, falling)


def _loss(
    model: LlamaForCausalLM,
    ids: torch.Tensor,
    marks: torch.Tensor,
    settings: BaseSettings,
    early: int = 0,
) -> tuple[torch.Tensor, Losses]:
    """The weighted loss of rows; sums and numbers of its answers and verdicts, in nats.

    `early` > 0 also asks for answers after so many layers.
    """
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.model(
            input_ids=ids[:, :-1], use_cache=False, output_hidden_states=bool(early)
        )
        hidden = found.last_hidden_state
        marks = marks[:, 1:].reshape(-1)
        read = (marks != PLAIN) | (torch.rand(marks.shape) < 1 / _ONE_IN)
        logits = model.lm_head(hidden.reshape(-1, hidden.shape[-1])[read])
        if early:
            said = (marks == ANSWER) | (marks == JUDGED) | (marks == STUDY)
            half = found.hidden_states[early].reshape(-1, hidden.shape[-1])[said]
            early_logits = model.lm_head(model.model.norm(half))
            early_targets = ids[:, 1:].reshape(-1)[said]
    targets, marks = ids[:, 1:].reshape(-1)[read], marks[read]
    losses = torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    plain = settings.other_weight * _ONE_IN
    weights = torch.tensor([plain, 1.0, settings.verdict_weight, 1.0, 1.0])[marks]
    number = max(1, int((marks != PLAIN).sum()))
    kinds = {
        name: (float(losses.detach()[marks == mark].sum()), int((marks == mark).sum()))
        for name, mark in (
            ("answers", ANSWER), ("verdicts", VERDICT), ("judged", JUDGED), ("studies", STUDY),
        )
    }  # fmt: skip
    loss = (losses * weights).sum()
    if early:
        of_early = torch.nn.functional.cross_entropy(
            early_logits.float(), early_targets, reduction="none"
        )
        loss = loss + of_early.sum()
        kinds["early"] = float(of_early.detach().sum()), len(early_targets)
    return loss / number, kinds


def _averaged(model: LlamaForCausalLM) -> None:
    """Give all processes the mean of their gradients, in one message."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    place = 0
    for gradient in gradients:
        gradient.copy_(flat[place : place + gradient.numel()].view_as(gradient))
        place += gradient.numel()


def train(
    model: LlamaForCausalLM,
    encoder: DocumentEncoder,
    settings: BaseSettings,
    after_step: Callable[[int], None],
    number: int = 0,
    rank: int = 0,
) -> list[Losses]:
    """Train the model in place, one phase. Returns each step's losses in this process.

    With several processes, `rank` is this one's, and `torch.distributed` has been set up.
    """
    torch.set_num_threads(1)
    phase = settings.phases[number]
    rng = random.Random(f"{settings.seed} {rank}" + (f" {number}" if number else ""))
    torch.manual_seed(settings.seed + 1000 * rank)
    optimizers = _optimizers(model, phase)
    schedule = [stage for stage in phase.stages for _ in range(stage.steps)] * phase.cycles
    steps = len(schedule)
    schedule = schedule[: phase.ended or steps]
    shown = progress(schedule, len(schedule), "train pico-base", "step") if not rank else schedule
    model.train()
    history: list[Losses] = []
    for step, stage in enumerate(shown):
        for optimizer, highest in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = highest * rate_factor(step, steps, phase)
        rows = [encoder.row(stage, rng) for _ in range(max(1, stage.rows // phase.processes))]
        ids = torch.tensor([row[0] for row in rows])
        marks = torch.tensor([row[1] for row in rows])
        loss, of_kinds = _loss(model, ids, marks, settings, phase.early)
        loss.backward()  # type: ignore[no-untyped-call]
        if phase.processes > 1:
            _averaged(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        history.append(of_kinds)
        if not rank and (step + 1) % WINDOW == 0:
            logger.info("step %d: %s", step + 1, _means(history[-WINDOW:])[0])
        after_step(step + 1)
    model.train(False)
    return history


def build(
    root: Path, folder: Path, settings: BaseSettings, *, first: int = 0, save_every: int = 0
) -> None:
    """Make pico-base from nothing and write it to `folder`, with `training.json` beside it.

    `root` is the project's folder. `first` > 0 goes on with the weights there, which the phases
    before it have left. `save_every` > 0 also writes what there is after every so many steps.
    """
    if not first:
        tokeniser = new_tokeniser(Documents(root), settings)
        tokeniser.save_pretrained(folder, save_jinja_files=False)
    for number in range(first, len(settings.phases)):
        with tempfile.TemporaryDirectory() as meeting:
            torch.multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
                _process,
                (root, folder, settings, number, save_every, Path(meeting) / "store"),
                nprocs=settings.phases[number].processes,
            )


def _process(
    rank: int,
    root: Path,
    folder: Path,
    settings: BaseSettings,
    number: int,
    save_every: int,
    store: Path,
) -> None:
    """One of the processes of a phase; the first one writes."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=settings.phases[number].processes,
    )
    documents = Documents(root)
    tokeniser = PreTrainedTokenizerFast.from_pretrained(folder)
    torch.manual_seed(settings.seed)
    if number:
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    else:
        model = new_model(settings, tokeniser)
    # No process writes before all have read.
    torch.distributed.barrier()

    def keep(step: int) -> None:
        if not rank and save_every and step % save_every == 0:
            save(model, tokeniser, folder)

    encoder = DocumentEncoder(tokeniser, documents)
    history = train(model, encoder, settings, keep, number, rank)
    if not rank:
        save(model, tokeniser, folder)
        _record(root, folder, settings, number, model, history)
    torch.distributed.destroy_process_group()


def _means(history: Sequence[Losses]) -> list[dict[str, float]]:
    """Nats a token, over consecutive windows of steps."""
    found = []
    for start in range(0, len(history), WINDOW):
        chunk = history[start : start + WINDOW]
        mean = {}
        for name in chunk[0]:
            number = sum(step[name][1] for step in chunk)
            if number:
                mean[name] = round(sum(step[name][0] for step in chunk) / number, 4)
        found.append(mean)
    return found


def _record(
    root: Path,
    folder: Path,
    settings: BaseSettings,
    number: int,
    model: LlamaForCausalLM,
    history: list[Losses],
) -> None:
    """Write training.json, with the losses of the phases before this one."""
    path = folder / "training.json"
    before = json.loads(path.read_text(encoding="utf-8"))["loss"] if number else []
    record: dict[str, Any] = {
        "pico_base": settings.as_dict(),
        "parameters": model.num_parameters(),
        "texts": {str(place): file_digest(located(place, root)) for place in (BANK, CONSTITUTION)},
        "unit": f"cross-entropy in nats a token, by phase, means of {WINDOW} steps in the first"
        " process",
        "loss": [*before[:number], _means(history)],
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: train from nothing, with a copy of what there is every 100 steps."""
    parser = argparse.ArgumentParser(prog="python -m grace.pico_base.training")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=BaseSettings().seed)
    parser.add_argument("--phase", type=int, default=0, help="go on at it with the weights there")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build(ROOT, chosen.output, BaseSettings(seed=chosen.seed), first=chosen.phase, save_every=100)
    return 0


if __name__ == "__main__":
    sys.exit(main())
