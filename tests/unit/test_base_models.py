"""Base models: texts to continue, examples before them, where answers end, what no prompt holds."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from bundled_studies import STUDIES
from tiny_model import build_tiny_model
from toy_tokenizers import KINDS, toy_tokenizer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from grace.engines.base import Decoding, GenerationRequest
from grace.engines.http.generation import ask_generation
from grace.engines.transformers.model import TransformersEngine
from grace.errors import ConfigError, EngineError
from grace.experiments import preflight
from grace.experiments.generation import run_generation
from grace.experiments.measurement import run_scoring, tokenised
from grace.experiments.trials import Run, trial_prompts
from grace.forecast.request_table import rows as forecast_rows
from grace.models.chat import ControlTokenError, tokenizer_of
from grace.prompts.example_bank import EXAMPLES
from grace.prompts.messages import bare_context, context
from grace.prompts.orders import combinations
from grace.scoring.records import distribution
from grace.settings.config import ModelEntry, RequestsConfig
from grace.settings.project import Project
from grace.studies.stimuli import read_trials

ROOT = Path(__file__).parents[2]
SEED = ROOT / "config/prompts/seed"


def entry(**changes) -> ModelEntry:
    values = {"engine": "transformers", "dtype": "float32", "gpus": 0, "prompting": "completion"}
    return ModelEntry(**{"name": "model", "max_model_len": 6144, **values, **changes})


def trials_of(name: str, limit: int | None = None):
    return read_trials(ROOT / f"resources/stimuli/{name}.csv", STUDIES[name], limit)


def prompts_of(name: str, **changes):
    """The completion prompts of a bundled study; `changes` are to its bank."""
    study = STUDIES[name]
    found = study.variant("seed", "completion")
    if changes:
        values = {**found.bank.model_dump(), **changes}
        found.bank = type(found.bank).model_validate(values)
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder with a random model that has no chat template and reads 6144 tokens."""
    root = tmp_path_factory.mktemp("base")
    build_tiny_model(root / "model", template=None, positions=6144)
    return root


@pytest.fixture(scope="module")
def engine(base: Path):
    with TransformersEngine("base", entry(), requests=RequestsConfig(), root=base, threads=1) as it:
        yield it


def run_of(name: str, experiment: str) -> Run:
    return Run("base", "model", STUDIES[name], experiment, 0, 1000, True)


# --- prompts and their examples -------------------------------------------------------------------


def test_no_trial_sees_an_example_of_its_own_item():
    study = STUDIES["study1"]
    trials = trials_of("study1")
    some = [trial["story_shortname"] for trial in trials[:3]]
    prompts = prompts_of("study1")
    examples = [one.model_dump() for one in prompts.bank.examples]
    for example, item in zip(examples, some, strict=False):
        example["item"] = f" {item.upper()} "
    prompts = prompts_of("study1", examples=examples, number=3)
    own = {example["name"]: example["item"].strip().lower() for example in examples}
    for trial in trials:
        seen = study.wording_facts(trial, prompts)["few_shot"]
        assert len(seen) == 3
        assert trial["story_shortname"] not in {own[name] for name in seen}
    with pytest.raises(ConfigError, match=r"`number` is 6, but only 5 examples are not about"):
        prompts_of("study1", examples=examples, number=6).seen(trials[0].all())


def test_the_order_follows_from_the_seed_and_the_digest_from_the_bank():
    names = ["study1_exp1.j2"]
    first = prompts_of("study1")
    assert first.seen(trials_of("study1", 1)[0].all())[EXAMPLES] == (
        "hens", "parcels", "boats", "kettles", "lamps", "bottles",
    )  # fmt: skip
    digests = {first.digest(names), STUDIES["study1"].variant("seed").digest(names)}
    fewer = {"examples": first.bank.model_dump()["examples"][1:], "number": 5}
    changes = ({"seed": 1}, {"number": 2}, {"stop": ["\n"]}, fewer)
    others = [prompts_of("study1", **change) for change in changes]
    assert others[0].bank.order != first.bank.order
    assert prompts_of("study1").digest(names) == first.digest(names)
    assert len(digests | {one.digest(names) for one in others}) == 6


# --- configuration --------------------------------------------------------------------------------


def test_what_cannot_be_asked_by_completion_is_refused_when_the_config_is_read():
    with pytest.raises(ValueError, match=r"engine `endpoint` makes a chat of whatever it is sent"):
        entry(engine="endpoint", base_url="http://127.0.0.1:1/v1")
    with pytest.raises(ValueError, match="belong together"):
        entry(reasoning={"format": "think"})


def test_a_run_with_both_kinds_of_models_keeps_their_prompts_apart(monkeypatch):
    plain = Project(ROOT, {"limit": 2})
    pico = plain.models["pico"]
    monkeypatch.setattr(
        "grace.settings.project.load_models",
        lambda _: {"pico": pico, "base": pico.model_copy(update={"prompting": "completion"})},
    )
    both = Project(ROOT, {"limit": 2, "models": ["pico", "base"]})
    both.check()
    assert both.promptings == ("chat", "completion")
    assert both.prompt_digests_of("pico") == plain.prompt_digests
    digests = both.prompt_digests_of("base")
    assert not set(map(str, digests.values())) & set(map(str, plain.prompt_digests.values()))
    assert both.model_configs["pico"] == plain.model_configs["pico"]
    assert both.model_configs["base"]["prompting"] == "completion"
    assert {k: v for k, v in both.wanted.items() if k != "completion"} == plain.wanted


# --- tokens ---------------------------------------------------------------------------------------


ALPHABET = [*map(chr, range(32, 127)), "\n", "  "]


def generated_text(numbers: random.Random) -> str:
    return "".join(numbers.choices(ALPHABET, k=numbers.randint(1, 40))).strip() or "-"


def generated_prompts(numbers: random.Random):
    """Prompts of generated trials without end: any bundled variant, order of options and turn.

    Values, and a model's own answers in earlier turns, are characters by chance; one prompt in ten
    has an example. Those that name a control token of a known family are refused and left out.
    """
    wordings = [
        (study, study.variant(variant, "completion"))
        for study in STUDIES.values()
        for variant in ("seed", "seed-system", "human", "paraphrase1", "paraphrase2", "paraphrase3")
    ]
    while True:
        study, prompts = numbers.choice(wordings)
        orders = prompts.wording and prompts.wording.orders.get(study.name)
        values = {
            **{name: generated_text(numbers) for name in study.variables},
            **(numbers.choice(combinations(orders)) if orders else {}),
            "state": numbers.randrange(4),
            EXAMPLES: [prompts.bank.examples[0].name][numbers.randrange(10) :],
        }
        template = numbers.choice([one for names in study.templates.values() for one in names])
        replies = [generated_text(numbers) for _ in prompts.asked(template)]
        try:
            yield prompts.render(template, values, replies[: numbers.randrange(len(replies))])
        except ConfigError as refused:
            if "control token" not in str(refused):
                raise


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_hold_no_token_of_a_kind_but_one_at_the_beginning(tmp_path, kind):
    """With two other kinds, 10,500 generated trials in all."""
    toy_tokenizer(tmp_path / "model", kind)
    tokenizer = tokenizer_of("base", entry(), tmp_path)
    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path / "model")
    marks = set(loaded.added_tokens_decoder) - {loaded.convert_tokens_to_ids("  ")}
    marks.discard(loaded.convert_tokens_to_ids("<unk>"))
    first = loaded.convert_tokens_to_ids("<stop>" if kind == "no beginning" else "<start>")
    for prompt in islice(generated_prompts(random.Random(kind)), 3500):
        ids = tokenizer.render(prompt).token_ids
        assert ids[0] == first
        assert not marks & set(ids[1:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("planted", ["<turn!>", "<stop>", "<start>", "zzyx"])
def test_a_planted_token_is_refused_with_the_evidence(tmp_path, kind, planted):
    toy_tokenizer(tmp_path / "model", kind)
    tokenizer = tokenizer_of("base", entry(), tmp_path)
    with pytest.raises(ControlTokenError, match="control token") as refused:
        tokenizer.render(context(f"Story: a {planted} b\nAnswer:"))
    assert refused.value.token == planted


def test_a_chat_template_is_never_touched(tmp_path):
    folder = build_tiny_model(tmp_path / "model")
    template = folder / "chat_template.jinja"
    template.write_text("{{ raise_exception('touched') }}")
    tokenizer = tokenizer_of("base", entry(), tmp_path)
    prompt = tokenizer.render(context("It was"))
    assert prompt.text == "<s>It was"
    assert tokenizer.digests()["chat_template"] is None
    with pytest.raises(EngineError, match="asked by completion and was given a chat"):
        tokenizer.render(({"role": "user", "content": "It was"},))


# --- experiments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["study1", "study2"])
def test_both_experiments_of_a_model_without_a_chat_template(base, engine, name):
    study, trials = STUDIES[name], trials_of(name, 2)
    tokenizer = tokenizer_of("base", entry(), base)
    # Few examples: rounding grows with the number of tokens.
    items = trial_prompts(run_of(name, "exp1"), trials, [prompts_of(name, number=2)])
    decoding = Decoding(1.0, 1.0, 12)
    answers = list(run_generation(run_of(name, "exp1"), items, tokenizer, engine, decoding))
    for record in answers:
        assert record["status"] == "ok"
        assert record["few_shot"]
        assert [message["role"] for message in record["messages"]] == ["context"]
        assert not any(stop in record["response"] for stop in items[0].prompts.stop)
    records = list(run_scoring(run_of(name, "exp2"), items, tokenizer, engine))
    assert {record["status"] for record in records} == {"ok"}
    # One trial by brute force: a plain pass for every option, each text tokenised as a whole.
    model = AutoModelForCausalLM.from_pretrained(base / "model", dtype=torch.float32)
    (query,) = study.queries(items[0].trial, items[0].prompts)[-1:]
    prompt, masses = "<s>" + bare_context(query.messages), {}
    start = len(tokenised(query, tokenizer, ["{}"]).prompt_token_ids)
    for option in query.options:
        ids = torch.tensor([tokenizer.tokenise(f"{prompt} {option}")])
        with torch.inference_mode():
            logs = model(ids).logits[0].log_softmax(-1)
        places = range(start, ids.shape[1])
        masses[option] = math.exp(sum(float(logs[at - 1, ids[0, at]]) for at in places))
    whole = math.fsum(masses.values())
    found = distribution(records[0]["queries"][-1])
    assert found == pytest.approx({o: p / whole for o, p in masses.items()}, abs=1e-6)
    assert records[0]["queries"][-1]["option_mass"] == pytest.approx(whole, abs=1e-6)


def test_an_answer_ends_before_a_stop_text_in_the_middle_of_a_token(base, engine):
    tokenizer = tokenizer_of("base", entry(), base)
    ids = tokenizer.render(context("It was")).token_ids
    plain = GenerationRequest("a", (), ids, Decoding(1.0, 1.0, 40), 7)
    (whole,) = engine.generate([plain])
    place = next(
        at for at, token in enumerate(tokenizer.tokenise(whole.text))
        if len(engine._tokenizer.decode([token]).strip()) > 2
    )  # fmt: skip
    pieces = [engine._tokenizer.decode([token]) for token in tokenizer.tokenise(whole.text)]
    stop = pieces[place].strip()[1:]
    before = whole.text.index(stop)
    decoding = replace(plain.decoding, stop=("never", stop))
    requests = [replace(plain, decoding=decoding), replace(plain, key="b")]
    cut, same = sorted(engine.generate(requests), key=lambda one: one.key)
    assert (cut.text, cut.finish_reason) == (whole.text[:before], "stop")
    assert cut.usage["completion_tokens"] < whole.usage["completion_tokens"]
    assert same.text == whole.text


def test_journal_keys_hold_stop_texts_only_where_there_are_some():
    plain = Decoding(0.7, 1.0, 256)
    assert plain.key() == {"temperature": 0.7, "top_p": 1.0, "max_tokens": 256}
    assert replace(plain, stop=("\n",)).key() == {**plain.key(), "stop": ("\n",)}


def test_what_ends_an_answer_is_the_end_of_text_or_a_line_break(base):
    tokenizer = tokenizer_of("base", entry(), base)
    texts = {tokenizer._tokenizer.decode([id_]) for id_ in tokenizer.terminator_ids}
    assert texts == {"<|end|>", "\n"}


def test_a_server_is_sent_the_stop_texts_where_there_are_some():
    sent = []

    class Client:
        async def post(self, path, body):
            sent.append(body)
            return {"choices": [{"index": 0, "text": " yes", "finish_reason": "stop"}]}

    def read(answer, choice):
        return choice["text"], None

    def ask(decoding: Decoding):
        request = GenerationRequest("a", (), (1,), decoding, 0)
        return asyncio.run(ask_generation(Client(), "/v1/completions", {}, request, read, entry()))

    plain = Decoding(0.7, 1.0, 20)
    assert ask(replace(plain, stop=("\n\n",))).text == " yes"
    assert ask(plain).finish_reason == "stop"
    assert [body.get("stop") for body in sent] == [["\n\n"], None]


def test_examples_count_before_anything_is_asked(base, tmp_path, monkeypatch):
    own = entry(name=str(base / "model"), max_model_len=3000)
    monkeypatch.setattr("grace.settings.project.load_models", lambda _: {"base": own})
    project = Project(ROOT, {"limit": 1, "models": ["base"], "studies": ["study1"]})
    project.check()
    runtime = SimpleNamespace(journal_dir=tmp_path, root=ROOT)
    with pytest.raises(EngineError, match=r"study1_exp1, .*row 2, variant seed: 4,\d+ tokens of"):
        preflight.check({"key": "base"}, own, project.wanted, runtime)
    longer = own.model_copy(update={"max_model_len": 6144})
    preflight.check({"key": "base"}, longer, project.wanted, runtime)
    assert list(tmp_path.rglob("*.json"))
    (row,) = (row for row in forecast_rows(project) if row.label == "study1_exp2")
    assert row.tokens.one_by_one > 3000 * row.requests.queries
