"""Wordings beside `seed`: paraphrases, a system message, orders of options, several turns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bundled_studies import FAULTS, STUDIES
from engines_for_tests import CharacterTokenizer, ScriptedEngine
from wording_runs import (
    PROMPTS,
    ROOT,
    VARIANTS,
    items_of,
    journaled,
    run_of,
    trials,
    variant,
)

from grace.digests import digest
from grace.engines.answer_keys import AnswerKeys
from grace.engines.base import Decoding, Generation, GenerationRequest
from grace.errors import ConfigError, EngineError
from grace.experiments.generation import run_generation
from grace.experiments.measurement import query_key, run_scoring
from grace.journal import Journal
from grace.prompts.checks import check_prompts
from grace.prompts.orders import order_name
from grace.prompts.variants import PromptSet
from grace.provenance.journal_check import Answers, differences
from grace.results.records import read_records, write_json, write_records
from grace.results.tables import (
    analysis_ready,
    own_columns,
    probability_columns,
    probability_rows,
    raw_columns,
    raw_rows,
    read_rows,
    structured_columns,
    structured_rows,
    wording_columns,
    write_rows,
)
from grace.studies.study import Study

PARAPHRASES = ("paraphrase1", "paraphrase2", "paraphrase3")
DECODING = Decoding(temperature=0.7, top_p=1.0, max_tokens=16)
STUDY1, STUDY2 = STUDIES.values()
PERCENTAGES = [f"{ten}%" for ten in range(0, 101, 10)]


@cache
def chats(name: str) -> dict[str, list[str]]:
    """What a variant asks, by study and experiment: each chat as one text."""
    found: dict[str, list[str]] = {}
    for study in STUDIES.values():
        prompts = variant(study, name)
        for trial in trials(study.name, 120):
            asked = [study.whole_chat(trial, prompts)]
            asked_of = {f"{study.name}_exp1": asked}
            for query in study.queries(trial, prompts):
                asked_of.setdefault(f"{study.name}_exp2_{query.name}", []).append(query.messages)
            for label, messages in asked_of.items():
                texts = ["\n\n".join(one["content"] for one in chat) for chat in messages]
                found.setdefault(label, []).extend(texts)
    return found


# What was there before ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("study", "experiment", "prompts", "asks", "requests", "records"),
    [
        (
            "study1", "exp1", "aa9d4b82279db2e3", "5d5e558e71144017", "7484a881597e5720",
            "ed266e08d065897a",
        ),
        (
            "study1", "exp2", "d7ef5733da761f64", "fcdceaa69c945165", "a459109bfeb07d19",
            "5e236aeec66c84b7",
        ),
        (
            "study2", "exp1", "a4228b3572a8fda6", "6f49d2c36e78be07", "48b1b21721e09f21",
            "6d8d84ac68ba42db",
        ),
        (
            "study2", "exp2", "fdf0d21bfb6e60ac", "bf3ac2d4ed361dbb", "11ff984b99589f56",
            "9c551a8d705b60dc",
        ),
    ],
)  # fmt: skip
def test_seed_is_asked_kept_and_recorded_as_before_there_were_other_wordings(
    study: str, experiment: str, prompts: str, asks: str, requests: str, records: str
) -> None:
    """Digests that Grace had before: of templates, of what is asked, of keys in the journal."""
    run = run_of(study, experiment)
    seed = STUDIES[study].variant("seed")
    # Asked beside them since: priors, and null contexts, in fields and queries of their own.
    beside = STUDIES[study].auxiliary_queries
    names = [name for name in STUDIES[study].templates[experiment] if "prior" not in name]
    assert seed.digest(names).startswith(prompts)
    assert STUDIES[study].asking_digest(experiment).startswith(asks)
    engine = ScriptedEngine()
    items = items_of(run, "seed", limit=4)
    asking = (
        run_generation(run, items, CharacterTokenizer(), engine, DECODING)
        if experiment == "exp1"
        else run_scoring(run, items, CharacterTokenizer(), engine)
    )
    found = [{k: v for k, v in record.items() if k != "run_timestamp"} for record in asking]
    keys = AnswerKeys("transformers", experiment, {})
    before = {
        query_key(query)
        for item in items
        for query in STUDIES[study].queries(item.trial, item.prompts)
        if query.name not in beside
    }
    asked = [one for one in engine.scored if one.key in before]
    for record in found:
        record.pop("null_contexts", None)
        if experiment == "exp2":
            own = [query for query in record["queries"] if query["name"] not in beside]
            record["queries"] = [{k: v for k, v in q.items() if k != "null_id"} for q in own]
    sent = [keys._sent(request) for request in engine.generated or asked]
    assert digest(sent).startswith(requests)
    # As lists: the order of keys is a part of the files' bytes.
    assert digest([list(record.items()) for record in found]).startswith(records)
    assert wording_columns(found) == ()


# Texts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_no_wording_has_a_fault_that_the_first_ones_had(name: str) -> None:
    texts = {text for found in chats(name).values() for text in found}
    for fault in FAULTS:
        assert not [text for text in texts if re.search(fault, text)][:1], fault


@pytest.mark.parametrize("name", VARIANTS)
def test_every_wording_asks_for_the_same_answers(name: str) -> None:
    found = chats(name)
    for text in found["study1_exp1"]:
        assert re.search(r"Initial Answer: \[(0-3|0/1/2/3|3/2/1/0)\]", text)
        form = text[text.index("Probabilities:") :].split("\n")[0]
        assert sorted(re.findall(r"(\d): \[X\]%", form)) == ["0", "1", "2", "3"]
        assert re.search(r"Knowledge: \[(yes/no|no/yes)\]", text)
    for state in range(4):
        for text in found[f"study1_exp2_state{state}"]:
            last = text.split("\n\n")[-1]
            assert sorted(set(re.findall(r"\d+%", last)) - {"100%"}) == sorted(PERCENTAGES[:-1])
            assert re.search(rf"\b{state}\b(?!%)", last)
    assert all(re.search(r"yes or no|no or yes", text) for text in found["study1_exp2_knowledge"])
    for text in (*found["study2_exp1"], *found["study2_exp2_utterance"]):
        last = text.split("\n")[-1]
        assert re.fullmatch(r"It \[(was/wasn't|wasn't/was)\] \[\w+/\w+/\w+/\w+\]", last)
        assert set(re.findall(r"\w+", last)) >= {"terrible", "bad", "good", "amazing"}
        assert re.search(r"\b3 hearts\b", text), "the scale has a maximum"


@pytest.mark.parametrize("name", VARIANTS)
def test_every_wording_tells_all_that_seed_tells(name: str) -> None:
    for study in STUDIES.values():
        prompts = variant(study, name)
        for trial in trials(study.name)[:40]:
            text = "\n".join(one["content"] for one in study.whole_chat(trial, prompts))
            values = study.values(trial)
            assert all(str(value) in text for value in values.values()), name


def test_paraphrases_share_no_sentence_of_the_frame() -> None:
    """What differs between wordings is every sentence that no trial holds."""

    def frame(name: str) -> set[str]:
        files = [*(PROMPTS / name).glob("*.j2")]
        lines = {line for file in files for line in file.read_text().splitlines()}
        answers = ("Initial", "Probabilities", "Knowledge", "It [")
        return {line for line in lines if len(line) > 30 and not line.startswith(answers)} - {
            '{% include "_study1_story.j2" %}', '{% include "_study2_question.j2" %}',
            "{{ precontext }} {{ scenario }}",
        }  # fmt: skip

    found = {name: frame(name) for name in ("seed", *PARAPHRASES)}
    for one in found:
        for other in set(found) - {one}:
            assert not found[one] & found[other]


def test_people_are_told_both_halves_of_a_goal() -> None:
    human = variant(STUDY2, "human")
    row = trials("study2")[0].row() | {"SP_Name": "Ada", "LS_Name": "Bo"}
    key = (row["Participant_ID"], row["Domain"])
    for goal, told in (
        ("informative", "whether or not that made Bo feel good"),
        ("social", "did not mind being uninformative"),
        ("both", "BOTH to be informative AND Bo to feel good"),
        ("If Ada wanted to make Bo feel good", "whether or not that was informative"),
        ("If Ada wanted to be informative, whether or not that pleased Bo", "that pleased Bo, "),
    ):
        trial = STUDY2.trial({**row, "Goal": goal})
        assert tuple(trial[name] for name in STUDY2.key_columns) == key
        text = STUDY2.messages(trial, human)[0]["content"]
        assert told in text
        assert text.count("whether or not") <= 1


# System message -----------------------------------------------------------------------------------


def test_a_system_message_is_all_that_sets_its_variant_off() -> None:
    for study in STUDIES.values():
        plain, system = variant(study, "seed", 3), variant(study, "seed-system", 3)
        for trial in trials(study.name, 3):
            pairs = [(study.messages(trial, plain), study.messages(trial, system))]
            asked = (study.queries(trial, plain), study.queries(trial, system))
            pairs += [(one.messages, other.messages) for one, other in zip(*asked, strict=True)]
            for without, with_it in pairs:
                assert [one["role"] for one in with_it] == ["system", "user"]
                assert with_it[1:] == without
        for experiment in ("exp1", "exp2"):
            names = study.templates[experiment]
            assert plain.digest(names) != system.digest(names)


def test_records_and_tables_say_which_wording_it_is(tmp_path: Path) -> None:
    run = run_of("study2", "exp2")
    items = items_of(run, "seed", "seed-system", "human")
    records = list(run_scoring(run, items, CharacterTokenizer(), ScriptedEngine()))
    columns = wording_columns(records)
    assert columns == ("variant_of", "system_message", "option_order")
    rows = list(probability_rows(records, STUDY2, 0.5, wording=columns))
    assert list(rows[0]) == [*probability_columns(STUDY2), *columns]
    of = {row["variant"]: [row[name] for name in columns] for row in rows}
    assert of["seed"] == ["seed", "no", None]
    assert of["seed-system"] == ["seed", "yes", None]
    assert of["human"][:2] == ["human", "no"]
    names = {row["option_order"] for row in rows if row["variant"] == "human"}
    assert all(re.fullmatch(r"frame=was(n't)?,assessment=(terrible|amazing)", x) for x in names)


# Orders of options --------------------------------------------------------------------------------


@pytest.mark.parametrize("study", STUDIES.values(), ids=lambda study: study.name)
def test_orders_are_counterbalanced_within_items_and_conditions(study: Study) -> None:
    prompts = variant(study, "human")
    assert prompts.wording is not None
    within = prompts.wording.orders[study.name].within
    cells: dict[tuple[Any, ...], Counter[str]] = {}
    for trial in trials(study.name):
        order = study.order(trial, prompts)
        assert order is not None
        cell = cells.setdefault(tuple(trial[name] for name in within), Counter())
        cell[order_name(order)] += 1
    for found in cells.values():
        counts = [found[name] for name in set().union(*cells.values())]
        assert len(counts) == 4
        assert max(counts) - min(counts) <= 1
    totals = sum(cells.values(), Counter())
    assert max(totals.values()) / min(totals.values()) < 1.1


def test_an_order_does_not_depend_on_how_many_trials_there_are() -> None:
    for study in STUDIES.values():
        few, all_ = variant(study, "human", 20), variant(study, "human")
        for trial in trials(study.name, 20):
            assert study.order(trial, few) == study.order(trial, all_)


def test_the_options_are_listed_in_the_order_that_is_recorded() -> None:
    prompts = variant(STUDY2, "human")
    seen = set()
    for trial in trials("study2")[:60]:
        order = STUDY2.order(trial, prompts)
        assert order is not None
        (query,) = STUDY2.queries(trial, prompts)
        brackets = " ".join(f"[{'/'.join(options)}]" for options in order.values())
        assert query.messages[0]["content"].endswith(f"It {brackets}")
        assert query.options == tuple(
            f"It {frame} {word}"
            for frame in ("was", "wasn't")
            for word in ("terrible", "bad", "good", "amazing")
        ), "options keep their names and order"
        seen.add(order_name(order))
    assert len(seen) == 4


# Several turns ------------------------------------------------------------------------------------


class Talking(ScriptedEngine):
    """Answers the last turn of a chat; remembers all that it was asked."""

    def __init__(self, reply: Callable[[str, int], str], **options: Any) -> None:
        super().__init__(reply, **options)
        self.asked: list[GenerationRequest] = []

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Generation]:
        for request in reversed(list(requests)):
            self.asked.append(request)
            text = request.messages[-1]["content"]
            if self.fails(text):
                yield Generation(request.key, None, None, error="server said no")
            else:
                said = self.reply(text, request.seed)
                yield Generation(
                    request.key, said, "stop", {"completion_tokens": len(said)},
                    completed_at="2026-01-01T00:00:00+00:00", processing_time_ms=1.0,
                )  # fmt: skip


def said(text: str, seed: int) -> str:
    """In the form asked for; the bets speak of knowledge, too, which is not what they are for."""
    if "Initial Answer" in text:
        return f" Initial Answer: {seed % 4}\n"
    if "Probabilities" in text:
        return "Probabilities: 0: 10%, 1: 20%, 2: 30%, 3: 40%\nKnowledge: no"
    return "Knowledge: yes"


def human(engine: Any, *, limit: int = 6, tokenizer: Any = None) -> list[dict[str, Any]]:
    run = run_of("study1", "exp1")
    items = items_of(run, "seed", "human", limit=limit)
    found = run_generation(run, items, tokenizer or CharacterTokenizer(), engine, DECODING)
    return [record for record in found if record["variant"] == "human"]


def test_each_turn_is_asked_after_the_models_own_answers() -> None:
    engine = Talking(lambda text, seed: f"Reply {seed}")
    for record in human(engine):
        assert [turn["name"] for turn in record["turns"]] == ["prior", "bets", "knowledge"]
        replies = [turn["response"] for turn in record["turns"]]
        assert len(set(replies)) == 3, "each is drawn with a seed of its own"
        roles = [message["role"] for message in record["messages"]]
        assert roles == ["user", "assistant"] * 2 + ["user"]
        assert [one["content"] for one in record["messages"][1::2]] == replies[:2]
        assert record["turns"][0]["messages"] == record["messages"][:1]
        assert record["turns"][1]["messages"] == record["messages"][:3]
        speech = record["trial"]["speach"]
        assert speech not in record["messages"][0]["content"], "the prior is asked before"
        assert speech in record["messages"][2]["content"]
        assert record["response"] == "\n".join(replies)
        assert record["usage"] == {"completion_tokens": sum(map(len, replies))}
        assert record["processing_time_ms"] == 3.0
    keys = [request.key for request in engine.asked]
    assert len(set(keys)) == len(keys) == 6 + 3 * 6


def test_prompts_are_told_apart_by_what_is_asked_not_by_what_was_answered() -> None:
    one, other = (human(Talking(lambda text, seed, x=x: f"{x}{seed}")) for x in "ab")
    assert [r["prompt_id"] for r in one] == [r["prompt_id"] for r in other]
    assert [r["messages"] for r in one] != [r["messages"] for r in other]


def test_a_chat_that_was_cut_off_goes_on_from_the_journal(tmp_path: Path) -> None:
    class CutError(Exception):
        pass

    def cut(text: str, seed: int) -> str:
        if "Knowledge: [" in text and "Initial" not in text:
            raise CutError
        return said(text, seed)

    with Journal(tmp_path / "journal") as journal:
        with pytest.raises(CutError), journaled(Talking(cut), journal) as engine:
            human(engine)
        again = Talking(said)
        with journaled(again, journal) as engine:
            resumed = human(engine)
        assert {len(request.messages) for request in again.asked} == {5}, "the last turn"
        idle = Talking(said)
        with journaled(idle, journal) as engine:
            repeated = human(engine)
            assert not engine.opened
    for record in (*resumed, *repeated):
        del record["run_timestamp"]
    assert resumed == repeated


def test_a_turn_that_fails_leaves_the_chat_unanswered() -> None:
    records = human(Talking(said, fails=lambda text: "Probabilities" in text and "1." not in text))
    for record in records:
        assert record["response"] is None
        assert record["status"] == "error: turn bets: server said no"
        assert [turn["status"] for turn in record["turns"]] == ["ok", "error: server said no"]


def test_an_answer_that_no_chat_can_hold_ends_its_chat_alone() -> None:
    class Refusing(CharacterTokenizer):
        def render(self, messages: Any) -> Any:
            if any(message["content"] == "<|end|>" for message in messages):
                raise EngineError("reads a control token")
            return super().render(messages)

    def odd(text: str, seed: int) -> str:
        return "<|end|>" if "Initial Answer: [" in text and seed % 2 else said(text, seed)

    records = human(Talking(odd), tokenizer=Refusing(), limit=12)
    bad = [record for record in records if record["status"] != "ok"]
    assert 0 < len(bad) < len(records)
    for record in bad:
        assert record["status"] == ("error: turn bets could not be asked: reads a control token")


def tables(folder: Path, records: list[dict[str, Any]]) -> pd.DataFrame:
    wording = wording_columns(records)
    raw = folder / "raw.csv"
    write_rows(raw, raw_rows(records, STUDY1, wording), (*raw_columns(STUDY1), *wording))
    columns = own_columns(raw, raw_columns(STUDY1))
    assert columns == (*raw_columns(STUDY1), *wording)
    rows = structured_rows(read_rows(raw, columns), STUDY1, 1.0)
    write_rows(folder / "s.csv", rows, (*structured_columns(STUDY1), *wording))
    return pd.read_csv(folder / "s.csv")


def test_a_field_is_read_from_its_own_turn(tmp_path: Path) -> None:
    run = run_of("study1", "exp1")
    items = items_of(run, "seed", "human", limit=12)
    records = list(run_generation(run, items, CharacterTokenizer(), Talking(said), DECODING))
    table = tables(tmp_path, records)
    asked = table[table["variant"] == "human"]
    assert set(asked["Knowledge_A"]) == {"yes"}, "not the bets' remark"
    assert set(asked["Prior_A"]) <= {0, 1, 2, 3}
    assert asked["extraction_errors"].isna().all()
    assert set(asked["turn_knowledge"]) == {"Knowledge: yes"}
    assert set(asked["option_order"].str.count("=")) == {2}
    plain = table[table["variant"] == "seed"]
    assert plain[["turn_prior", "option_order"]].isna().all(axis=None)
    merged = analysis_ready(STUDY1, table, None)
    assert {"variant_of", "system_message", "option_order", "turn_bets"} <= set(merged)


def test_answers_in_either_order_of_the_numbers_are_in_the_form_asked_for() -> None:
    for numbers in ((0, 1, 2, 3), (3, 2, 1, 0)):
        bets = ", ".join(f"{number}: {number * 10 + 10}%" for number in numbers)
        answer = STUDY1.parse(f"Initial Answer: 2\nProbabilities: {bets}\nKnowledge: no")
        assert answer["extraction_confidence"] == 1
        assert [answer[f"probability_{number}"] for number in range(4)] == [10, 20, 30, 40]


def test_every_turn_is_compared_with_the_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal, journaled(Talking(said), journal) as engine:
        records = human(engine)
        sessions, keys = engine.sessions(), engine.answer_keys()
    write_json(tmp_path / "provenance.json", {"answers": sessions, "answer_keys": keys})

    def found() -> list[str]:
        write_records(tmp_path / "records.json", records)
        answers = Answers(tmp_path / "journal")
        return list(differences(tmp_path / "records.json", tmp_path / "provenance.json", answers))

    assert found() == []
    assert len(list(read_records(tmp_path / "records.json"))) == 6
    records[2]["turns"][1]["response"] = "Probabilities: 0: 0%, 1: 0%, 2: 0%, 3: 100%"
    (difference,) = found()
    assert "turn bets: not the answer that the journal" in difference


def test_experiment_2_goes_on_from_fixed_replies() -> None:
    prompts = variant(STUDY1, "human", 2)
    trial = trials("study1", 2)[0]
    queries = {query.name: query.messages for query in STUDY1.queries(trial, prompts)}
    for name, turns in (("state0", 2), ("state3", 2), ("knowledge", 3)):
        roles = [message["role"] for message in queries[name]]
        assert roles == ["user", "assistant"] * (turns - 1) + ["user"]
        assert {one["content"] for one in queries[name][1::2]} == {"Ready."}
        assert trial["speach"] not in queries[name][0]["content"]


# What is refused ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty variant beside `seed`."""
    (tmp_path / "seed").symlink_to(PROMPTS / "seed")
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("extends: nowhere", "extends: 'nowhere' is no other variant here"),
        ("extends: mine", "extends: 'mine' is no other variant here"),
        ("- 1", "must hold keys with values"),
        ("sytem: hello", "sytem"),
        ("system: ' '", "must not be empty"),
        ("system: '<|end|>'", r"<\|end\|>, a control token"),
        ("turns: {a.j2: []}", "is empty"),
        ("turns: {a.j2: [{template: b.j2, reply: x}]}", "last turn is the model's"),
        ("turns: {a.j2: [{template: b.j2}, {template: c.j2}]}", "needs a `name`"),
        ("turns: {a.j2: [{template: b.j2, name: B-1}]}", "name"),
        ("orders: {study1: {lists: {a: [[1, 2]]}}}", "two orders or more"),
        ("orders: {study1: {lists: {a: [[1, 2], [1, 3]]}}}", "orders of the same options"),
        ("orders: {study1: {lists: {a: [[1, 2, 3], [1, 3, 2]]}}}", "different first options"),
        ("orders: {study1: {lists: {A b: [[1, 2], [2, 1]]}}}", "small letters"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(folder: Path, text: str, problem: str) -> None:
    (folder / "variant.yaml").write_text(text)
    with pytest.raises(ConfigError, match=problem):
        PromptSet(folder)


def test_a_variant_of_a_variant_of_another_is_refused(folder: Path) -> None:
    (folder / "variant.yaml").write_text("extends: seed")
    (folder.parent / "third").mkdir()
    (folder.parent / "third/variant.yaml").write_text("extends: mine")
    assert PromptSet(folder).digest(["study1_exp1.j2"]) == PromptSet(PROMPTS / "seed").digest(
        ["study1_exp1.j2"]
    )
    with pytest.raises(ConfigError, match="extends: 'mine' extends 'seed' itself"):
        PromptSet(folder.parent / "third")


@pytest.mark.parametrize(
    ("study", "text", "problem"),
    [
        (
            STUDY1,
            "turns: {study1_exp1.j2: [{template: a.j2, name: prior}, {template: b.j2, name: c}]}",
            "percentage of {state} from the turn 'bets', which is not among prior, c",
        ),
        (
            STUDY1,
            "turns: {study1_exp2_state.j2: [{template: a.j2, name: x}, {template: b.j2, name: y}]}",
            "experiment 2 scores the last turn",
        ),
        (STUDY2, "orders: {study2: {within: [Dom], lists: {a: [[1, 2], [2, 1]]}}}", "no column"),
    ],
)
def test_turns_and_orders_fit_the_study(
    folder: Path, study: Study, text: str, problem: str
) -> None:
    (folder / "variant.yaml").write_text(f"extends: seed\n{text}\n")
    found = trials(study.name, 3)
    prompts = PromptSet(folder)
    path = ROOT / f"resources/stimuli/{study.name}.csv"

    def check() -> None:
        study.counterbalance(prompts, found)
        check_prompts(path, study, ("exp1", "exp2"), found, {"mine": prompts})

    with pytest.raises(ConfigError, match=re.escape(problem)):
        check()


def test_the_bundled_wordings_pass_the_checks_and_are_different_questions() -> None:
    for study in STUDIES.values():
        found = trials(study.name, 12)
        sets = dict(zip(VARIANTS, study.variants(VARIANTS, found), strict=True))
        path = ROOT / f"resources/stimuli/{study.name}.csv"
        check_prompts(path, study, ("exp1", "exp2"), found, sets)
