"""Sentinel texts of base models: what counts as an assistant's, what is kept, what the alarm does.

And that no mark of a chat reaches one: over declared studies, generated trials, random tokenisers.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from declared import DECLARED, write_study
from engines_for_tests import CharacterTokenizer, ScriptedEngine, journaled
from metadata_facts import job as facts_of_job
from metadata_facts import plan, run
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from grace.engines.base import Generation, GenerationRequest
from grace.experiments import sentinels
from grace.experiments.sentinels import (
    ASSISTANT,
    BANK,
    DEGENERATE,
    FAILED,
    PLAIN,
    classify,
    watched,
)
from grace.journal import Journal
from grace.models.chat import ControlTokenError, tokenizer_of
from grace.prompts.messages import bare_context
from grace.prompts.plain_text import known_control_token
from grace.provenance.metadata import metadata
from grace.results.run_checks import check_sentinels
from grace.settings.config import ModelEntry
from grace.studies.reading import read_study
from grace.studies.stimuli import read_trials

ANSWERS = [
    " Sure! Here are two sentences about rain.",
    "\nCertainly, I can do that.",
    "Of course! What theme would you like?",
    "Here are two sentences about rain:\n\nRain falls.",
    "As an AI, I do not have feelings.",
    " I'm an AI assistant made to help.",
    "I am a large language model trained by",
    "I’m sorry, but I can’t help with that.",
    "I cannot assist with that request.",
    "\nassistant\nThe sky is blue.",
    "\nAssistant: The sky is blue.",
    "\n### Response:\nRain falls.",
    "<|im_start|>user",
    " [/INST] Paris",
    "Hello! How can I help you today?",
    " Paris. Let me know if you need more!",
    "I'd be happy to help you plan it.",
    "The capital of France is Paris.",
]
TEXTS = [
    " were coming in with the tide. Nobody spoke.",
    " value\n    return total / len(values)",
    " Thursday\n5. Friday",
    " blue\n\nQuestion: What is two and two?\nAnswer: four",
    "\nWhat is the capital of Spain?\nWhat is the capital of Italy?",
    " pleased to hear of your plans, and are sure that they",
    " It should be about something that you like.",
    "\nI was sorry that he left. Here the road turns.",
    " The model of the town was on show, user and maker alike.",
]


@pytest.mark.parametrize("text", ANSWERS)
def test_what_an_assistant_writes_is_known_by_a_sign(text: str) -> None:
    kind, sign = classify(text)
    assert kind == ASSISTANT
    assert sign


@pytest.mark.parametrize("text", TEXTS)
def test_what_goes_on_is_plain(text: str) -> None:
    assert classify(text) == (PLAIN, None)


def test_loops_and_nothing_are_degenerate_and_failures_are_none_of_them() -> None:
    assert classify("") == (DEGENERATE, "no word")
    assert classify(" ... \n\n --") == (DEGENERATE, "no word")
    assert classify(" the the the" * 6) == (DEGENERATE, "a loop")
    assert classify("K\\A\x0e\ufffd  goodD\ufffdt\r\x0f") == (
        DEGENERATE,
        "characters that are none",
    )
    assert classify(None) == (FAILED, None)


def test_the_bank_holds_no_sign_itself() -> None:
    assert all(classify(text)[0] == PLAIN for text in BANK.values())


class Continuing(ScriptedEngine):
    """Continues each text as `made` says, by name."""

    def __init__(self, made: dict[str, str | None]) -> None:
        super().__init__()
        self.made = made

    def generate(self, requests: Any) -> Any:
        self.generated = list(requests)
        for request in self.generated:
            text = self.made.get(request.key, " and so on")
            error = "no answer" if text is None else None
            yield Generation(request.key, text, None, error=error)


def seen(made: dict[str, str | None], folder: Path) -> tuple[dict[str, Any], Continuing]:
    engine = Continuing(made)
    tokenizer: Any = CharacterTokenizer()
    with Journal(folder) as journal, journaled(engine, journal) as kept:
        found = watched(tokenizer, kept.sentinels, "base")
        assert kept.sessions() == []
        assert kept.answer_keys() == {}
    return found, engine


def test_a_model_that_answers_raises_an_alarm_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found, _ = seen(dict.fromkeys(("question", "request", "help"), "Sure! Here it is."), tmp_path)
    assert found["rates"] == {ASSISTANT: 0.25, PLAIN: 0.75, DEGENERATE: 0}
    assert found["alarm"]
    assert "continues 3 of 12 sentinel texts like an assistant" in caplog.text
    (check,) = check_sentinels(found, "study1", "exp1")
    assert (check.name, check.passed, check.value) == ("continues_texts", False, 0.25)
    assert "an assistant's opening: Sure!" in check.description


def test_one_that_continues_raises_none(tmp_path: Path) -> None:
    found, _ = seen({"help": "Sure! Here it is.", "code": "the " * 40}, tmp_path)
    assert (found["alarm"], found["answered"]) == (False, 12)
    assert found["rates"][DEGENERATE] == pytest.approx(1 / 12)
    assert [check.passed for check in check_sentinels(found, "study1", "exp1")] == [True]
    assert check_sentinels(None, "study1", "exp1") == []
    assert [one["name"] for one in found["continuations"]] == list(BANK)


def test_sentinels_are_asked_once_and_those_that_failed_again(tmp_path: Path) -> None:
    first, engine = seen({"help": None}, tmp_path)
    assert (first["asked"], first["answered"]) == (12, 11)
    assert len(engine.generated) == 12
    second, engine = seen({}, tmp_path)
    assert len(engine.generated) == 12
    again, engine = seen({}, tmp_path)
    assert engine.generated == []
    assert again == second


def test_metadata_has_them(tmp_path: Path) -> None:
    found, _ = seen({"help": "Sure!"}, tmp_path)
    cell = {"decoding": {"temperature": 0.7, "top_p": 1.0, "max_tokens": 9}}
    one = {
        **run(facts_of_job("a", "b", "A100"), [], **cell),
        "sentinels": json.loads(json.dumps(found)),
    }
    made = metadata(plan(), {"study1_exp1": one})["runs"]["study1_exp1"]["sentinels"]
    assert made["rates"][ASSISTANT] == pytest.approx(1 / 12)
    assert made["continuations"][8]["text"] == "Sure!"


def test_a_text_that_a_tokeniser_has_a_mark_in_is_left_out_and_said(tmp_path: Path) -> None:
    class Marked(CharacterTokenizer):
        def render(self, messages: Any) -> Any:
            messages = list(messages)
            if "pinch" in messages[0]["content"]:
                raise ControlTokenError("reads 'pinch' as a mark", "pinch")
            return super().render(messages)

    tokenizer: Any = Marked()

    def ask(requests: Sequence[GenerationRequest]) -> dict[str, str | None]:
        return {request.key: " and so on" for request in requests}

    found = watched(tokenizer, ask, "base")
    assert found["not_asked"] == {"recipe": "reads 'pinch' as a mark"}
    assert (found["asked"], found["answered"]) == (11, 11)
    assert sentinels.requests(tokenizer)[0][0].key == "prose"


# --- no mark reaches a base model

LETTERS = "abcdefghijklmnopqrstuvwxyz"
COMPLETION = (
    "{% for example in examples %}{{ example }}\n\n{% endfor %}"
    "Item: {{ item }}, of size {{ size }}.\nAnswer:"
)


def random_tokenizer(folder: Path, draws: random.Random) -> list[str]:
    """A tokeniser with a vocabulary and marks of its own; gives the marks but the first token."""
    metaspace = draws.random() < 0.3
    backend = Tokenizer(models.BPE(unk_token="<unk>") if metaspace else models.BPE())
    if metaspace:
        backend.pre_tokenizer = pre_tokenizers.Metaspace()
        backend.decoder = decoders.Metaspace()
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
    words = ["".join(draws.choices(LETTERS, k=draws.randint(2, 7))) for _ in range(200)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        [" ".join(words)] * 3,
        trainers.BpeTrainer(
            vocab_size=draws.randint(300, 500),
            initial_alphabet=[*alphabet, *map(chr, range(33, 127)), "\n"]
            if metaspace
            else alphabet,
            special_tokens=["<unk>"] if metaspace else [],
        ),
    )
    shapes = ("<{}>", "[{}]", "<|{}|>", "{}", "\u2581{}!")
    marks = {
        draws.choice(shapes).format("".join(draws.choices(LETTERS, k=draws.randint(3, 6))))
        for _ in range(draws.randint(2, 6))
    }
    special, added = sorted(marks)[::2], sorted(marks)[1::2]
    backend.add_special_tokens(["<start>", "<stop>", *special])
    backend.add_tokens(["  ", *added])
    bos = {"bos_token": "<start>"} if draws.random() < 0.7 else {}
    unk = {"unk_token": "<unk>"} if metaspace else {}
    PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<stop>", **bos, **unk
    ).save_pretrained(folder)
    return ["<start>", "<stop>", *marks]


def random_study(folder: Path, draws: random.Random, planted: list[str], trials: int) -> Any:
    """A study whose trials hold anything, some of them a mark, and the texts that ask it."""
    rows = io.StringIO()
    table = csv.writer(rows)
    table.writerow(["item", "size"])
    characters = LETTERS * 3 + LETTERS.upper() + "0123456789 .,;:!?'\"<>|[]()-_/&%äéß☕"
    for number in range(trials):
        text = "".join(draws.choices(characters, k=draws.randint(1, 50))).strip()
        if draws.random() < 0.1:
            text = f"{text} {draws.choice(planted)} {text[:5]}"
        table.writerow([f"{number} {text}", draws.randint(0, 99)])
    names = [f"example{number}" for number in range(draws.randint(0, 4))]
    bank = {
        "item": "item",
        "number": len(names),
        "stop": ["\n\n"],
        "answers": dict.fromkeys(("exp1.j2", "exp2.j2"), " big"),
        "examples": [
            {"name": name, "item": name, "values": {"item": name, "size": 7}} for name in names
        ],
    }
    write_study(folder, DECLARED, trials=rows.getvalue())
    own = folder / "prompts/seed/completion"
    own.mkdir()
    for name in ("exp1.j2", "exp2.j2"):
        (own / name).write_text(COMPLETION)
    (own / f"{folder.name}.yaml").write_text(yaml.safe_dump(bank))
    study = read_study(folder, folder.name)
    prompts = study.variant("seed", "completion")
    for trial in read_trials(folder / "stimuli.csv", study, None):
        (query,) = study.queries(trial, prompts)
        yield draws.choice((study.messages(trial, prompts), query.messages))


def test_no_mark_but_one_beginning_reaches_a_base_model_in_10_000_generated_trials(
    tmp_path: Path,
) -> None:
    """8 declared studies of 250 trials, each in one experiment and by 5 random tokenisers."""
    draws = random.Random(14)
    entry = ModelEntry(
        name="model", engine="transformers", dtype="float32", gpus=0, prompting="completion"
    )
    asked = refused = 0
    for number in range(8):
        known = []
        for which in range(5):
            root = tmp_path / f"{number}-{which}"
            marks = random_tokenizer(root / "model", draws)
            loaded = PreTrainedTokenizerFast.from_pretrained(root / "model")
            known.append((tokenizer_of("base", entry, root), loaded, marks))
        planted = [mark for _, _, marks in known for mark in marks]
        # Some are known by their shape and refused when the trials are read.
        plain = [mark.replace("\u2581", " ") for mark in planted if not known_control_token(mark)]
        for messages in random_study(tmp_path / f"made{number}", draws, plain, 250):
            text = bare_context(messages)
            for tokenizer, loaded, _ in known:
                forbidden = {
                    id_
                    for id_, token in loaded.added_tokens_decoder.items()
                    if token.content.strip() and token.content != "<unk>"
                }
                try:
                    ids = tokenizer.render(messages).token_ids
                except ControlTokenError as error:
                    refused += 1
                    name = error.token.replace("\u2581", " ").strip()
                    assert name in text, (name, text)
                    continue
                asked += 1
                first = loaded.bos_token_id if loaded.bos_token else loaded.eos_token_id
                assert ids[0] == first
                assert not forbidden.intersection(ids[1:])
    assert asked + refused == 10_000
    assert refused > 100
