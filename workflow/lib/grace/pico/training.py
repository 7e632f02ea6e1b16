"""Making pico: its tokeniser, its model, its training targets and the loop.

The simulator knows the exact distribution of the next token after every beginning of an answer.
Those distributions, not sampled tokens, are the training targets: an answer is sampled, and at
each of its tokens the model learns the whole distribution of what may stand there.

Several answers that share the beginning of their prompt are laid out as one tree, the shared part
once: tokens of a branch see the trunk and their own branch only (a 4-D attention mask), and count
their positions on from the trunk. A model in use, which sees one prompt at a time, computes the
same numbers.
"""

from __future__ import annotations

import json
import logging
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tokenizers
import torch
from tokenizers import decoders, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from grace.pico import paraphrases, simulator
from grace.pico.settings import Settings, Stage
from grace.pico.trained_on import study
from grace.progress import progress
from grace.prompts.variants import PromptSet
from grace.studies.trials import Trial

BOS, USER, SYSTEM, ASSISTANT, END, PAD = (
    "<|begin|>",
    "<|user|>",
    "<|system|>",
    "<|assistant|>",
    "<|end|>",
    "<|pad|>",
)
SPECIAL_TOKENS = (PAD, BOS, END, USER, SYSTEM, ASSISTANT)
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
#: Words with the space before them, single digits, and runs of other marks with the space after
#: them unless it belongs to a word. A digit is never merged with anything.
_PIECES = r" ?\p{L}+|\p{N}|[^\s\p{L}\p{N}]+(?: (?!\p{L}))?|\s+"

#: Losses are reported as means of this many steps.
WINDOW = 100

#: Kullback-Leibler divergence by task, in nats per answer.
Losses = dict[str, float]
AfterStep = Callable[[int, Losses], None]
logger = logging.getLogger(__name__)


# The tokeniser


def corpus(prompts: PromptSet, seed: int, trials: int) -> Iterator[str]:
    """Prompts and answers for the tokeniser to learn its pieces from."""
    rng = random.Random(seed)
    for _ in range(trials):
        for chat in chats(prompts, rng):
            yield chat.messages[0]["content"]
            yield "".join(sample(chat.process, rng))


def train_tokeniser(texts: Iterator[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokeniser with a chat template and digits as single tokens."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    tokeniser: PreTrainedTokenizerFast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=model,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[USER, SYSTEM, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
    return tokeniser


def token_id(tokeniser: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one token. Raises `KeyError` where the vocabulary does not hold it."""
    return tokeniser.get_vocab()[token]


# The model


class ModelSizes(Protocol):
    """What decides a Llama's sizes, context aside."""

    @property
    def vocabulary(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def feed_forward(self) -> int: ...


def new_llama(
    shape: ModelSizes, tokeniser: PreTrainedTokenizerFast, context: int = 1024
) -> LlamaForCausalLM:
    """An untrained model; its weights depend on torch's seed."""
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.width // shape.heads,
        max_position_embeddings=context,
        initializer_range=0.04,
        tie_word_embeddings=True,
        bos_token_id=token_id(tokeniser, BOS),
        eos_token_id=token_id(tokeniser, END),
        pad_token_id=token_id(tokeniser, PAD),
    )
    return LlamaForCausalLM(config)


def save(model: LlamaForCausalLM, tokeniser: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the folder that transformers and vLLM load."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    model.save_pretrained(folder)
    tokeniser.save_pretrained(folder, save_jinja_files=False)
    (folder / "model.safetensors").chmod(0o644)


# Targets


@dataclass(frozen=True)
class Chat:
    """A prompt, and the process that answers it."""

    messages: tuple[dict[str, str], ...]
    process: simulator.Process


def sample(process: simulator.Process, rng: random.Random) -> tuple[str, ...]:
    """An answer, as its parts."""
    said: tuple[str, ...] = ()
    while part := process(said):
        said += tuple(rng.choices(list(part), list(part.values())))
    return said


def node_targets(
    options: Mapping[tuple[int, ...], float], path: Sequence[int]
) -> list[dict[int, float]]:
    """The distribution of the next token at each node on the way along one option.

    `options` gives each token sequence's probability; none may be the beginning of another, so
    that every node but the last has a next token. `path` is one of them.
    """
    targets = []
    alive = {tuple(option): p for option, p in options.items() if p > 0}
    for depth, token in enumerate(path):
        if any(len(option) <= depth for option in alive):
            raise ValueError("one option's tokens are the beginning of another's")
        total = sum(alive.values())
        node: dict[int, float] = defaultdict(float)
        for option, p in alive.items():
            node[option[depth]] += p / total
        targets.append(dict(node))
        alive = {option: p for option, p in alive.items() if option[depth] == token}
    if len(alive) != 1:
        raise ValueError("the path is none of the options")
    return targets


@dataclass(frozen=True)
class Branch:
    """A prompt, a sampled answer to it, and what should be predicted at each answer token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    targets: tuple[dict[int, float], ...]


class Encoder:
    """Turns chats into branches."""

    def __init__(self, tokeniser: PreTrainedTokenizerFast) -> None:
        self._tokeniser = tokeniser
        self._end = token_id(tokeniser, END)
        self._known: dict[str, tuple[int, ...]] = {}

    def prompt(self, messages: Sequence[dict[str, str]]) -> tuple[int, ...]:
        """Ids of the rendered chat."""
        text = self._tokeniser.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        return tuple(self._tokeniser(text, add_special_tokens=False)["input_ids"])

    def _part(self, text: str) -> tuple[int, ...]:
        if text not in self._known:
            ids = self._tokeniser(text, add_special_tokens=False)["input_ids"]
            self._known[text] = tuple(ids)
        return self._known[text]

    def answer(
        self, process: simulator.Process, said: Sequence[str]
    ) -> tuple[tuple[int, ...], tuple[dict[int, float], ...]]:
        """An answer's ids, end of turn included, and the target at each of them."""
        ids: list[int] = []
        targets: list[dict[int, float]] = []
        for step, text in enumerate(said):
            part = process(tuple(said[:step]))
            last = step == len(said) - 1
            end = (self._end,) if last else ()
            options = {self._part(option) + end: p for option, p in part.items()}
            path = self._part(text) + end
            targets += node_targets(options, path)
            ids += path
        return tuple(ids), tuple(targets)

    def branches(self, chat: Chat, rng: random.Random, count: int = 1) -> list[Branch]:
        """A chat with answers drawn from its process."""
        prompt = self.prompt(chat.messages)
        return [
            Branch(prompt, *self.answer(chat.process, sample(chat.process, rng)))
            for _ in range(count)
        ]


# Training data


def _story(rng: random.Random, stage: Stage) -> Trial:
    return paraphrases.study1_trial(rng, number_words=stage.number_words, asides=stage.asides)


def _bet_chats(prompts: PromptSet, trial: Trial) -> list[Chat]:
    options = simulator.study1_distributions(trial)
    return [
        Chat(query.messages, simulator.closed(options[query.name]))
        for query in study("study1").queries(trial, prompts)
        if query.name in options  # people were not asked for their priors state by state
    ]


def _free_chat(prompts: PromptSet, trial: Trial) -> Chat:
    return Chat(study("study1").messages(trial, prompts), simulator.study1_answer(trial))


def _utterance_chats(prompts: PromptSet, rng: random.Random) -> list[Chat]:
    trial = paraphrases.study2_trial(rng)
    process = simulator.study2_answer(trial)
    study2 = study("study2")
    free = Chat(study2.messages(trial, prompts), process)
    closed = [Chat(query.messages, process) for query in study2.queries(trial, prompts)]
    return [free, *closed]


def chats(prompts: PromptSet, rng: random.Random) -> list[Chat]:
    """One chat of every kind."""
    return [
        *_bet_chats(prompts, paraphrases.study1_trial(rng)),
        _free_chat(prompts, paraphrases.study1_trial(rng)),
        *_utterance_chats(prompts, rng),
    ]


Tree = list[Branch]


def draw_trees(
    encoder: Encoder, prompts: PromptSet, stage: Stage, rng: random.Random
) -> dict[str, list[Tree]]:
    """One step's training data, by task."""
    trees: dict[str, list[Tree]] = {"bets": [], "free": [], "utterances": []}
    for _ in range(stage.bet_trees):
        *bets, knowledge = _bet_chats(prompts, _story(rng, stage))
        asked = [*rng.sample(bets, stage.bets), knowledge]
        trees["bets"].append([b for chat in asked for b in encoder.branches(chat, rng)])
    for _ in range(stage.free_trees):
        chat = _free_chat(prompts, _story(rng, stage))
        trees["free"].append(encoder.branches(chat, rng, stage.free_answers))
    for _ in range(stage.utterance_trees):
        asked = _utterance_chats(prompts, rng)
        trees["utterances"].append([b for chat in asked for b in encoder.branches(chat, rng)])
    return trees


@dataclass(frozen=True)
class TrainingBatch:
    """Trees as tensors.

    Predictions are read at (`rows`, `columns`). The wish at read `reads[i]` gives the token
    `tokens[i]` the probability `probabilities[i]`.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    mask: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor
    reads: torch.Tensor
    tokens: torch.Tensor
    probabilities: torch.Tensor
    branches: int


def _shared(tree: Tree) -> int:
    """Length of the prompts' common beginning; at least one token stays in each branch."""
    shortest = min(len(branch.prompt) for branch in tree) - 1
    first = tree[0].prompt
    for place in range(shortest):
        if any(branch.prompt[place] != first[place] for branch in tree):
            return place
    return shortest


def collate(trees: Sequence[Tree]) -> TrainingBatch:
    """Lay trees out side by side: trunk first, then its branches one after the other."""
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    segments: list[list[int]] = []
    reads: list[tuple[int, int, dict[int, float]]] = []
    for row, tree in enumerate(trees):
        trunk = _shared(tree)
        tokens = list(tree[0].prompt[:trunk])
        places = list(range(trunk))
        marks = [0] * trunk
        for number, branch in enumerate(tree, start=1):
            own = branch.prompt[trunk:] + branch.answer[:-1]
            first_read = len(tokens) + len(branch.prompt) - trunk - 1
            reads += [(row, first_read + j, t) for j, t in enumerate(branch.targets)]
            tokens += own
            places += range(trunk, trunk + len(own))
            marks += [number] * len(own)
        ids.append(tokens)
        positions.append(places)
        segments.append(marks)
    length = max(len(tokens) for tokens in ids)
    input_ids = torch.zeros(len(trees), length, dtype=torch.long)
    position_ids = torch.zeros(len(trees), length, dtype=torch.long)
    segment = torch.full((len(trees), length), -1)
    for row, tokens in enumerate(ids):
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        position_ids[row, : len(tokens)] = torch.tensor(positions[row])
        segment[row, : len(tokens)] = torch.tensor(segments[row])
    of_trunk = segment[:, None, :] == 0
    of_branch = segment[:, None, :] == segment[:, :, None]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = ((of_trunk | of_branch) & causal)[:, None]
    wishes = [
        (read, token, p) for read, (_, _, target) in enumerate(reads) for token, p in target.items()
    ]
    return TrainingBatch(
        input_ids=input_ids,
        position_ids=position_ids,
        mask=mask,
        rows=torch.tensor([row for row, _, _ in reads]),
        columns=torch.tensor([column for _, column, _ in reads]),
        reads=torch.tensor([read for read, _, _ in wishes]),
        tokens=torch.tensor([token for _, token, _ in wishes]),
        probabilities=torch.tensor([p for _, _, p in wishes]),
        branches=sum(len(tree) for tree in trees),
    )


# The loop


def divergence(model: LlamaForCausalLM, batch: TrainingBatch) -> torch.Tensor:
    """Kullback-Leibler divergence of model from simulator, in nats per answer.

    Summed over an answer's tokens, it is the divergence of the answers' distributions, as far as
    the sampled paths show.
    """
    hidden = model.model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        attention_mask=batch.mask,
        use_cache=False,
    ).last_hidden_state
    logprobs = model.lm_head(hidden[batch.rows, batch.columns]).log_softmax(-1)
    wished = batch.probabilities
    total = (wished * (wished.log() - logprobs[batch.reads, batch.tokens])).sum()
    mean: torch.Tensor = total / batch.branches
    return mean


def learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    falling = (stage.zero_at or stage.steps) - stage.warmup_steps
    done = (step - stage.warmup_steps) / max(1, falling)
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _optimizer(model: LlamaForCausalLM, weight_decay: float) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    gains = [p for p in model.parameters() if p.ndim == 1]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": gains, "weight_decay": 0.0},
        ],
        betas=(0.9, 0.98),
    )


def train(
    model: LlamaForCausalLM,
    tokeniser: PreTrainedTokenizerFast,
    prompts: PromptSet,
    settings: Settings,
    *,
    first_stage: int = 0,
    after_step: AfterStep | None = None,
) -> list[Losses]:
    """Train the model in place. Returns each step's divergence by task, in nats per answer.

    The same settings, code, prompts and machine give the same losses. `first_stage` > 0 goes on
    with a model that the stages before it have trained. `after_step` is called with the number
    of steps done and the step's losses.
    """
    torch.set_num_threads(settings.threads)
    encoder = Encoder(tokeniser)
    model.train()
    history: list[Losses] = []
    total = sum(stage.steps for stage in settings.stages[first_stage:])
    for step, (stage_step, stage, optimizer, rng) in enumerate(
        progress(_schedule(model, settings, first_stage), total, "train pico", "step"), start=1
    ):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(stage, stage_step)
        losses: Losses = {}
        for task, trees in draw_trees(encoder, prompts, stage, rng).items():
            loss = divergence(model, collate(trees))
            weight = stage.bet_weight if task == "bets" else 1.0
            (weight * loss).backward()  # type: ignore[no-untyped-call]
            losses[task] = float(loss.detach())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        history.append(losses)
        if step % WINDOW == 0:
            logger.info("step %d: %s", step, _smoothed(history[-WINDOW:])[0])
        if after_step is not None:
            after_step(step, losses)
    model.train(False)
    return history


def _schedule(
    model: LlamaForCausalLM, settings: Settings, first_stage: int
) -> Iterator[tuple[int, Stage, torch.optim.AdamW, random.Random]]:
    """Every step's number in its stage, with that stage's optimiser and random stream."""
    for number, stage in enumerate(settings.stages[first_stage:], start=first_stage):
        optimizer = _optimizer(model, settings.weight_decay)
        rng = random.Random(settings.seed + 1000 * number)
        for step in range(stage.steps):
            yield step, stage, optimizer, rng


def build(
    prompts: PromptSet,
    folder: Path,
    settings: Settings,
    *,
    corpus_trials: int = 3000,
    save_every: int = 0,
) -> list[Losses]:
    """Make pico from nothing and write it to `folder`, with `training.json` beside it.

    The tokeniser learns from `corpus_trials` trials. `save_every` > 0 also writes what there is
    after every so many steps.
    """
    torch.manual_seed(settings.seed)
    texts = corpus(prompts, settings.seed + 1, corpus_trials)
    tokeniser = train_tokeniser(texts, settings.vocabulary)
    model = new_llama(settings, tokeniser)

    def keep(step: int, _: Losses) -> None:
        if save_every and step % save_every == 0:
            save(model, tokeniser, folder)

    history = train(model, tokeniser, prompts, settings, after_step=keep)
    save(model, tokeniser, folder)
    record: dict[str, Any] = {
        "settings": settings.as_dict(),
        "parameters": model.num_parameters(),
        "prompts": prompts.variant,
        "unit": f"Kullback-Leibler divergence in nats per answer, means of {WINDOW} steps",
        "loss": _smoothed(history),
    }
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return history


def _smoothed(history: Sequence[Losses]) -> list[Losses]:
    """Means of consecutive windows of steps."""
    means = []
    for start in range(0, len(history), WINDOW):
        chunk = history[start : start + WINDOW]
        means.append(
            {task: round(sum(step[task] for step in chunk) / len(chunk), 6) for task in chunk[0]}
        )
    return means
