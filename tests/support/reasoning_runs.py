"""What tests of reasoning models share: runs of study 2, folders of tokenisers, toys measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundled_studies import STUDIES
from toy_reasoners import (
    FAMILIES,
    ToyReasoner,
    reasoner,
    write_tokenizer,
)

from grace.experiments.measurement import run_scoring
from grace.experiments.trials import Run, trial_prompts
from grace.models.chat import tokenizer_of
from grace.settings.outputs import thinking_config
from grace.studies.stimuli import read_trials

ROOT = Path(__file__).parents[2]
STUDY = STUDIES["study2"]
HI = ({"role": "user", "content": "Hi"},)
#: By family: the tokens that end a trace, and those before an answer.
CLOSINGS = {
    "qwen3": (["</think>"], ["\n\n"]),
    "r1": (["</think>"], ["\n\n"]),
    "gpt-oss": (["<|channel|>", "final", "<|message|>"], []),
}


def items_of(run: Run, limit: int = 1):
    trials = read_trials(ROOT / "resources/stimuli/study2.csv", STUDY, limit)
    return trial_prompts(run, trials, [STUDY.variant("seed")])


def run_of(experiment: str) -> Run:
    return Run("toy", "model", STUDY, experiment, 0, 1000, True)


def tokeniser_folders(factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each family, with its tokeniser in `model`."""
    found = {}
    for family in FAMILIES:
        found[family] = factory.mktemp(family)
        write_tokenizer(found[family] / "model", family)
    return found


def ids_of(loaded, pieces: list[str]) -> tuple[int, ...]:
    """Token ids of texts that stand behind each other; a token's name stands for itself."""
    vocabulary = loaded.get_vocab()
    return tuple(
        id_
        for piece in pieces
        for id_ in (
            [vocabulary[piece]]
            if piece in loaded.added_tokens_encoder
            else loaded.encode(piece, add_special_tokens=False)
        )
    )


def measured(folder: Path, *, in_order: bool = False, family: str = "qwen3", **changes):
    """Records of one trial, with the toy that answered them."""
    entry = reasoner(family, **changes)
    tokenizer = tokenizer_of("toy", entry, folder)
    run = run_of("exp2")
    items = items_of(run)
    (query,) = STUDY.queries(items[0].trial, items[0].prompts)
    toy = ToyReasoner(tokenizer._tokenizer, query.options, in_order=in_order)
    settings = thinking_config(entry)
    records = list(run_scoring(run, items, tokenizer, toy, ["{}"], settings))
    return records, toy


def traces_of(record) -> list[dict]:
    """The traces of a record's query; those of its null context stand beside them."""
    (query,) = record["queries"]
    return [trace for trace in record["traces"] if trace["trace_id"] == query["trace_id"]]
