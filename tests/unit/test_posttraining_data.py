"""The data of a recipe, step by step, with a tiny random base: asked, judged, kept, masked."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from recipe_runs import BANK, BASE, constitution
from tiny_model import build_tiny_model
from toy_tokenizers import KINDS, toy_tokenizer
from transformers import AutoTokenizer
from waiting import PATIENCE_S, wait_until

from grace.engines.base import Generation
from grace.errors import ConfigError
from grace.posttraining import answers, judging, pages
from grace.posttraining.approvals import Approval, approval, approve, require
from grace.posttraining.asking import asked
from grace.posttraining.instruction_bank import InstructionBank, items, normalised
from grace.posttraining.instructions import invent, of_evaluation, of_training
from grace.posttraining.judging import ACCEPTED, judge_rows, refuse_no_judge, verdict
from grace.posttraining.overlap import ProtectedTexts, refuse
from grace.posttraining.pairing import make_pairs
from grace.posttraining.selection import select_rows
from grace.posttraining.token_rows import (
    MASKED,
    TrainingTokenizer,
    UnusableTextError,
    token_row,
    write_pairs,
    write_sft,
)
from grace.serving.lease import evict_idle
from grace.serving.state_dir import StateDir, host_dir, state_dirs
from grace.settings.config import ModelEntry
from grace.settings.recipes import PairsConfig
from grace.settings.training_configs import (
    Acceptance,
    AnswersStep,
    InstructionsStep,
    JudgeStep,
    PairsStep,
    RowsStep,
)

NOTHING = ProtectedTexts({})
RULES = constitution()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    build_tiny_model(folder / "models/base", template=None, positions=6144)
    return folder


@pytest.fixture(scope="module")
def entry() -> ModelEntry:
    return ModelEntry.model_validate(BASE)


@pytest.fixture(scope="module")
def settings(root, entry) -> dict:
    return {
        "entry": entry.model_dump(), "requests": {}, "scoring": {}, "serving": {},
        "root": str(root), "journal_dir": str(root / ".grace"), "journal_timeout_s": 300,
        "log_dir": str(root / "logs"), "threads": 1,
    }  # fmt: skip


@pytest.fixture(scope="module")
def model(root, entry) -> dict:
    from grace.contents import Contents
    from grace.models.identity import ModelIdentity

    return {"key": "base", **ModelIdentity(entry, (), root, Contents()).output_config()}


@pytest.fixture(scope="module")
def tokenizer(root, entry) -> TrainingTokenizer:
    return TrainingTokenizer("base", entry, root)


def bank() -> InstructionBank:
    return InstructionBank.model_validate(BANK)


def instructions_step(**changes) -> InstructionsStep:
    values = {"bank": "", "train": 12, "evaluation": 6, "held_out_types": 1, "by_base": 0.0}
    return InstructionsStep(**{**values, "seed": 1, "model": None, **changes})


def judged_row(name: str, answer: str, margin: float, *, mass: float = 1.0, flags=()) -> dict:
    judgement = {"margin": margin, "option_mass": mass, "queries": []}
    return {
        "answer_id": name, "row_id": name.split("-")[0], "type": "copy",
        "instruction": f"Copy {name.split('-')[0]}.", "answer": answer, "finish_reason": "stop",
        "flags": list(flags), "judgement": None if flags else judgement,
    }  # fmt: skip


# --- instructions and splits ------------------------------------------------------------------


def test_splits_share_no_type_no_values_and_no_wording():
    found, config = bank(), instructions_step()
    (held,) = found.held_out(1)
    evaluation, training = of_evaluation(found, config), of_training(found, config, 12)
    assert held in {item.type for item in evaluation}
    assert held not in {item.type for item in training}
    told = {(item.type, tuple(item.values.items())) for item in evaluation}
    assert told.isdisjoint((item.type, tuple(item.values.items())) for item in training)
    assert {item.text.split()[0] for item in evaluation} == {"Now"}
    assert ProtectedTexts({i.text: i.text for i in evaluation}).all_shared(
        (i.text, i.text) for i in training
    ) == []  # fmt: skip


def test_a_split_does_not_change_when_a_bank_grows():
    values = json.loads(json.dumps(BANK))
    for one in values["types"]:
        one["values"]["word"].append("ship")
    larger = InstructionBank.model_validate(values)
    for small, large in zip(bank().types, larger.types, strict=True):
        for evaluation in (True, False):
            before = {i.text for i in items(small, evaluation=evaluation, held_out=False)}
            after = {i.text for i in items(large, evaluation=evaluation, held_out=False)}
            assert before < after or (before == after == set()) or before <= after


def test_an_instruction_that_two_types_or_values_give_is_asked_once():
    values = json.loads(json.dumps(BANK))
    one = {**values["types"][0], "values": {"word": ["A b", "a"], "other": ["c", "b, c"]}}
    one |= {"evaluation": ["Now {word} {other}."], "training": ["Copy {word} {other}."]}
    values["types"] = [one, {**one, "name": "again"}, values["types"][2]]
    found = InstructionBank.model_validate(values)
    config = instructions_step(held_out_types=0, evaluation=1)
    kinds = [
        items(kind, evaluation=evaluation, held_out=False)
        for kind in found.types[:2]
        for evaluation in (True, False)
    ]
    assert sum(map(len, kinds)) == 8  # of three texts: "a b c" is there four times
    for made in (of_evaluation(found, config), of_training(found, config, 5)):
        ids = [item.record("")["row_id"] for item in made]
        assert len(ids) == len(set(ids))
    with pytest.raises(ConfigError, match="for training, but 99 are needed"):
        of_training(found, config, 99)


def test_a_bank_that_is_too_small_is_refused_with_the_numbers():
    with pytest.raises(ConfigError, match="for training, but 5,000 are needed"):
        of_training(bank(), instructions_step(train=5000), 5000)
    with pytest.raises(ConfigError, match=r"`instructions\.evaluation` is 5,000"):
        of_evaluation(bank(), instructions_step(evaluation=5000))


def test_instructions_of_the_base_are_new_whole_and_share_nothing(tokenizer):
    from grace.engines.base import Generation

    texts = ["", "Name a bird.", "name a BIRD", "Copy the word sun", "Copy the word sun.",
             "Say <s> now please", "One two three four five six seven eight", "Cut off here now",
             "Write a line about fog"]  # fmt: skip
    protected = ProtectedTexts({"item": "so one two three four five six seven eight it is"})

    def ask(requests):
        for place, request in enumerate(requests):
            text = texts[place % len(texts)]
            assert request.prompt_token_ids.count(0) == 1
            yield Generation(request.key, text, "length" if "Cut" in text else "stop")

    found = invent(bank(), instructions_step(), 6, [], tokenizer, ask, protected)
    assert [row.text for row in found.rows] == ["Copy the word sun", "Write a line about fog"]
    assert found.dropped.keys() == {
        "no instruction", "repeated", "control token", "overlap", "cut off",
    }  # fmt: skip


def test_text_of_evaluation_or_stimuli_in_the_data_is_named():
    told = "The nurse has looked at two of the three boxes on the shelf"
    protected = ProtectedTexts({"study1, trial 7, column story": told})
    planted = f"Once upon a time: {told.upper()}!"
    found = protected.all_shared([("instruction 5", "Name a bird."), ("instruction 6", planted)])
    with pytest.raises(ConfigError, match="instruction 6 and study1, trial 7, column story share"):
        refuse(found, "2 texts")
    assert protected.shared("", "The nurse has looked at two of") is None
    refuse([], "2 texts")


# --- the chain with a model -------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(model, settings) -> tuple[list, list, dict]:
    """Answers and judgements of twelve instructions, and what was asked."""
    rows = [item.record("train") for item in of_training(bank(), instructions_step(), 12)]
    step = AnswersStep(
        model=model, format=RULES.format, examples=answers.drawn(RULES.examples, 1, 1),
        temperature=1, top_p=1, max_tokens=8, draws=2, seed=1,
    )  # fmt: skip
    with asked(model, settings, "exp1", "answers") as open_model:
        given = list(answers.answer_rows(rows, step, open_model))
    judge = JudgeStep(
        model=model, principles=[one.text for one in RULES.principles],
        accepting=RULES.judge.accepting, rejecting=RULES.judge.rejecting,
        examples=judging.drawn(RULES.judge.examples, 2, 1),
    )  # fmt: skip
    with asked(model, settings, "exp2", "judge") as open_model:
        found = list(judge_rows(given, judge, open_model))
    return given, found, open_model.facts


def test_each_instruction_has_its_draws_and_flags_say_what_is_wrong(judged):
    given, found, facts = judged
    assert len(given) == len(found) == 24
    assert {row["answer_id"] for row in given} == {
        f"{r['row_id']}-{d}" for r in given for d in (0, 1)
    }
    for row in given:
        assert ("cut off" in row["flags"]) == (row["finish_reason"] != "stop")
        assert ("empty" in row["flags"]) == (row["answer"] == "")
    assert facts["engine"]["sentinels"]["rates"]


def test_a_margin_is_the_mean_over_polarities_and_positions(judged):
    _, found, _ = judged
    measured = [row for row in found if row["judgement"]]
    assert measured, "some answers of a random model end"
    for row in measured:
        queries = row["judgement"]["queries"]
        assert [one["form"] for one in queries] == [
            "accepting, yes first", "accepting, no first", "rejecting, yes first",
            "rejecting, no first",
        ]  # fmt: skip
        for one in queries:
            from math import exp

            yes, no = (exp(one["logprobs"][word]) for word in ("yes", "no"))
            accept = yes if one["form"].startswith("accepting") else no
            assert one["p_accept"] == pytest.approx(accept / (yes + no))
            assert one["option_mass"] == pytest.approx(yes + no)
        mean = sum(2 * one["p_accept"] - 1 for one in queries) / 4
        assert row["judgement"]["margin"] == pytest.approx(mean)
    assert all(row["judgement"] is None for row in found if row["flags"])


def test_what_was_asked_is_not_asked_again(judged, model, settings, monkeypatch):
    given, _, _ = judged
    monkeypatch.setattr("grace.posttraining.asking.opened", None)  # opening would fail
    rows = [row for row in given if row["answer_id"].endswith("-0")]
    step = AnswersStep(
        model=model, format=RULES.format, examples=answers.drawn(RULES.examples, 1, 1),
        temperature=1, top_p=1, max_tokens=8, draws=2, seed=1,
    )  # fmt: skip
    with asked(model, settings, "exp1", "answers") as open_model:
        assert list(answers.answer_rows(rows, step, open_model)) == given


def test_both_polarities_show_the_same_examples_with_the_words_that_fit():
    step = JudgeStep(
        model={}, principles=["Be brief."], accepting="Right?", rejecting="Wrong?",
        examples=RULES.judge.examples,
    )  # fmt: skip
    texts = {form.name: judging.question(step, form, "Copy A.", "A") for form in judging.FORMS}
    assert texts["accepting, yes first"].count("Right? (yes or no)") == 3
    assert (
        "Answer: fog\nQuestion: Right? (yes or no)\nVerdict: yes" in texts["accepting, yes first"]
    )
    assert "Answer: fog\nQuestion: Wrong? (no or yes)\nVerdict: no" in texts["rejecting, no first"]
    assert all(text.endswith("Verdict:") for text in texts.values())


def test_a_judge_that_does_not_answer_stops_with_the_numbers():
    rows = [judged_row(f"r{n}-0", "x", 0.9, mass=0.001) for n in range(30)]
    with pytest.raises(ConfigError, match="0 of 30 judgements have an option mass"):
        refuse_no_judge(rows, Acceptance(accept=0.6, min_option_mass=0.8))
    with pytest.raises(ConfigError, match="all are flagged: empty 2"):
        refuse_no_judge([judged_row(f"r{n}-0", "", 0, flags=["empty"]) for n in range(2)],
                        Acceptance(accept=0.6, min_option_mass=0.8))  # fmt: skip


# --- rows -------------------------------------------------------------------------------------


def test_loss_is_on_the_answer_and_its_end_alone(root, tokenizer, tmp_path):
    """200 rows against the tokeniser itself, as any program would use it."""
    other = AutoTokenizer.from_pretrained(root / "models/base")
    rng = random.Random(7)
    words = ["nurse", "12", "terrible", "lamp,", "É", "three-", "it", "42%", "naïve", "good."]
    rows = []
    for place in range(200):
        instruction = " ".join(rng.choices(words, k=rng.randint(1, 9)))
        answer = " ".join(rng.choices(words, k=rng.randint(1, 9)))
        rows.append((str(place), token_row(tokenizer, RULES.format, instruction, answer)))
        prompt = other(f"<s>Task: {instruction}\nAnswer:", add_special_tokens=False)["input_ids"]
        whole = other(f"<s>Task: {instruction}\nAnswer: {answer}<|end|>", add_special_tokens=False)
        assert rows[-1][1].input_ids == whole["input_ids"]
        assert rows[-1][1].labels == [MASKED] * len(prompt) + whole["input_ids"][len(prompt) :]
    write_sft(tmp_path / "sft.parquet", rows)
    table = pq.read_table(tmp_path / "sft.parquet")
    assert table.column_names == ["input_ids", "labels", "row_id"]
    assert {str(table.schema.field(n).type) for n in ("input_ids", "labels")} == {
        "list<element: int32>"
    }
    assert table.column("labels").to_pylist() == [row.labels for _, row in rows]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_trained_on_has_the_ids_that_the_model_is_asked_with(tmp_path, model, kind):
    """Of three kinds of tokenisers; one of them joins no answer to its prompt by chance."""
    toy_tokenizer(tmp_path / "base", kind)
    own = TrainingTokenizer("base", ModelEntry.model_validate(BASE | {"name": "base"}), tmp_path)
    rng = random.Random(kind)
    said = ["it", "10%", "speaker", "naive-", "(no)", "the", "Answer:"]
    rows = [
        {"row_id": str(n), "type": "x", "instruction": " ".join(rng.choices(said, k=5))}
        for n in range(40)
    ]
    sent: dict[str, tuple[int, ...]] = {}

    def generate(requests):
        for one in requests:
            sent[one.key] = tuple(one.prompt_token_ids)
            yield Generation(one.key, "it", "stop")

    step = AnswersStep(
        model=model, format=RULES.format, examples=[], temperature=0, top_p=1, max_tokens=8,
        draws=1, seed=1,
    )  # fmt: skip
    asks = SimpleNamespace(
        tokenizer=own, engine=SimpleNamespace(generate=generate), seed_text="base"
    )
    list(answers.answer_rows(rows, step, asks))
    loaded = AutoTokenizer.from_pretrained(tmp_path / "base")
    first = "<stop>" if kind == "no beginning" else "<start>"
    for row in rows:
        answer = " ".join(rng.choices(said, k=3))
        trained = token_row(own, RULES.format, row["instruction"], answer)
        assert trained.prompt == sent[f"{row['row_id']}-0"]
        whole = f"{first}Task: {row['instruction']}\nAnswer: {answer}<stop>"
        assert trained.input_ids == loaded(whole, add_special_tokens=False)["input_ids"]
        answered = len(trained.prompt)
        assert trained.labels == [MASKED] * answered + trained.input_ids[answered:]


@pytest.mark.parametrize("answer", ["x <s> y", "<|end|>", "a<|end|>Task: b"])
def test_a_control_token_in_an_answer_is_never_trained_on(tokenizer, answer):
    with pytest.raises(UnusableTextError, match="control token"):
        token_row(tokenizer, RULES.format, "Copy it.", answer)


def rows_step(model, **changes) -> RowsStep:
    values = {"accept": 0.5, "min_option_mass": 0.8, "format": RULES.format, "max_length": 64}
    return RowsStep(model=model, **{**values, **changes})


def test_rows_are_selected_by_margin_and_option_mass_and_the_rest_is_counted(model, tokenizer):
    rows = [
        judged_row("a-0", "sun", 0.9), judged_row("a-1", "sun", 0.8), judged_row("b-0", "fog", 0.4),
        judged_row("c-0", "hay", 0.9, mass=0.5), judged_row("d-0", "", 0, flags=["empty"]),
        judged_row("e-0", "<s>", 0.9),
        judged_row("f-0", "one two three four five six seven eight", 1),
    ]  # fmt: skip
    protected = ProtectedTexts({"item": "zero one two three four five six seven eight"})
    found = select_rows(rows, rows_step(model), tokenizer, protected)
    assert [row["answer_id"] for row, _ in found.rows] == ["a-0"]
    assert found.counts == {
        "accepted": 1, "repeated": 1, "rejected": 1, "low option mass": 1, "empty": 1,
        "control token": 1, "overlap": 1,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="No answer is left to train on: of 7 "):
        select_rows(rows, rows_step(model, accept=0.95, max_length=8), tokenizer, protected)
    with pytest.raises(ConfigError, match=r"1 rows have more than `sft.max_length` = 8 tokens"):
        select_rows(rows, rows_step(model, max_length=8), tokenizer, protected)


# --- pairs ------------------------------------------------------------------------------------


def pairs_step(model, **changes) -> PairsStep:
    pairs = {"candidates": 2, "min_margin": 0.4, "hard_negatives": dict.fromkeys(
        ("refusal", "hallucination", "format"), 0), **changes}  # fmt: skip
    return PairsStep(
        **rows_step(model, accept=0.2, max_length=256).model_dump(), sample=5, seed=1,
        pairs=PairsConfig.model_validate(pairs), refusals=RULES.refusals,
        wrong_formats=RULES.wrong_formats,
    )  # fmt: skip


def candidates(number: int) -> list[dict]:
    words = ["lamp", "stone", "paper", "bread", "river", "cloud", "shoes"]
    rng, rows = random.Random(3), []
    for place in range(number):
        good, bad = (" ".join(rng.choices(words, k=rng.randint(3, 5))) for _ in range(2))
        rows += [judged_row(f"r{place}-0", good, 0.8), judged_row(f"r{place}-1", f"{bad} x", -0.5)]
    return rows


def test_pairs_are_best_and_worst_with_balanced_lengths(model, tokenizer, tmp_path):
    found = make_pairs(candidates(60), pairs_step(model), tokenizer, NOTHING)
    assert len(found.pairs) > 20
    for pair in found.pairs:
        assert (pair.chosen_margin, pair.rejected_margin, pair.kind) == (0.8, -0.5, "sampled")
        assert pair.chosen_ids.prompt == pair.rejected_ids.prompt
        lengths = sorted([len(pair.chosen_ids.answer), len(pair.rejected_ids.answer)])
        assert lengths[1] <= 1.5 * lengths[0]
    report = found.report()
    assert report["chosen_longer"] == report["rejected_longer"] > 0
    assert sum(found.counts.values()) == 60
    write_pairs(
        tmp_path / "dpo.parquet", [(p.row_id, p.chosen_ids, p.rejected_ids) for p in found.pairs]
    )
    table = pq.read_table(tmp_path / "dpo.parquet")
    assert table.column_names == ["prompt_ids", "chosen_ids", "rejected_ids", "row_id"]
    end = tokenizer.end_id
    assert {ids[-1] for ids in table.column("chosen_ids").to_pylist()} == {end}
    page = pages.pairs_page("r<b>", report["pairs"][:3], found.counts)
    assert "<b>" not in page


def test_hard_negatives_have_about_their_shares(model, tokenizer):
    shares = {"refusal": 0.2, "hallucination": 0.3, "format": 0.2}
    step = pairs_step(model, hard_negatives=shares, max_length_ratio=50)
    found = make_pairs(candidates(150), step, tokenizer, NOTHING)
    kinds = found.report()["kinds"]
    total = sum(found.counts.values())
    drawn = {name: kinds.get(name, 0) for name in shares}
    assert total == 150
    assert drawn["hallucination"] == pytest.approx(0.3 * 150, abs=30)
    assert all(number > 0 for number in drawn.values())
    for pair in found.pairs:
        assert pair.rejected != pair.chosen
        assert (pair.rejected_margin is None) == (pair.kind != "sampled")


def test_no_pair_left_is_said_with_the_reasons(model, tokenizer):
    with pytest.raises(ConfigError, match="No pair is left: of 5 instructions 5 margin too small"):
        make_pairs(candidates(5), pairs_step(model, min_margin=2), tokenizer, NOTHING)


def test_a_target_is_the_most(model, tokenizer):
    found = make_pairs(candidates(60), pairs_step(model, target=4), tokenizer, NOTHING)
    assert len(found.pairs) == 4
    again = make_pairs(candidates(60)[::-1], pairs_step(model, target=4), tokenizer, NOTHING)
    assert {p.row_id for p in again.pairs} == {p.row_id for p in found.pairs}


# --- decision points --------------------------------------------------------------------------


def test_an_approval_counts_for_what_was_approved_alone(tmp_path):
    one = approval(str(tmp_path), "demo", "sample", None)
    Path(one.of).parent.mkdir(parents=True)
    with pytest.raises(ConfigError, match="nothing to approve yet"):
        approve([one], "read")
    Path(one.of).write_text("rows")
    with pytest.raises(ConfigError, match=r"read .*sample.html, then\s+`snakemake approve"):
        require([one.dump()])
    approve([one], "read 100 rows")
    require([one.dump()])
    Path(one.of).write_text("other rows")
    with pytest.raises(ConfigError, match="What was approved before is another"):
        require([one.dump()])
    Path(one.note).write_text("{}")
    with pytest.raises(ConfigError, match="waits for a decision"):
        require([one.dump()])
    require([])
    # What was approved keeps its note when something else is.
    other = Approval("demo", "sample", f"{one.of}.2", one.page, f"{one.note}.2")
    Path(other.of).write_text("more rows")
    approve([one], "read once more")
    assert len(approve([one, other], "read the rest")) == 1
    assert json.loads(Path(one.note).read_text())["note"] == "read once more"
    two = Approval("other", "sample", one.of, one.page, one.note)
    with pytest.raises(ConfigError, match="Recipes demo, other wait"):
        approve([one, two], "both")


def test_an_idle_server_leaves_before_a_training_begins(tmp_path):
    """It would keep the GPU's memory for `serving.idle_s` seconds."""
    server = StateDir(host_dir(tmp_path) / "base-1")
    server.path.mkdir(parents=True)
    supervisor = server.supervisor_lock()
    assert supervisor.take(wait=True)

    def supervise() -> None:
        wait_until(server.asked_to_leave, PATIENCE_S, "the question to leave")
        supervisor.release()

    thread = threading.Thread(target=supervise)
    thread.start()
    evict_idle(state_dirs(host_dir(tmp_path)), "demo.sft-1")
    assert not server.supervised()
    thread.join()


def test_a_page_shows_text_of_models_as_text():
    row = judged_row("a-0", "<script>alert(1)</script>", 0.9)
    row["instruction"] = "\x1b[31m & <b>"
    page = pages.sample_page("r", [row], {"accepted": 1}, Acceptance(accept=0.5, min_option_mass=0))
    assert "<script>" not in page
    assert "\x1b" not in page
    assert "default-src 'none'" in page
    assert verdict(row, Acceptance(accept=0.5, min_option_mass=0)) == ACCEPTED
    assert normalised("Naïve,  FOG!") == "naïve fog"
