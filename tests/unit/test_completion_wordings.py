"""Variants as base models are asked them: turns, system messages, orders of options, examples."""

from __future__ import annotations

import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from bundled_studies import bundled_study

from grace.engines.base import Decoding, Generation
from grace.errors import ConfigError
from grace.experiments.generation import run_generation
from grace.experiments.trials import Run, trial_prompts
from grace.prompts.messages import bare_context
from grace.prompts.orders import combinations
from grace.prompts.templates import Templates
from grace.studies.stimuli import read_trials

ROOT = Path(__file__).parents[2]
STUDIES = {name: bundled_study(name) for name in ("study1", "study2", "refgame")}
VARIANTS = ("seed", "seed-system", "human", "paraphrase1", "paraphrase2", "paraphrase3")
WORDINGS = [("refgame", "seed"), *((s, v) for s in ("study1", "study2") for v in VARIANTS)]
#: What stands before an answer to each of a variant's questions.
CUES = ("Answer:", "Answers:", "Reply:", "answer:", "(c):", "choice:", "in:", "sentence:")


def asked_as(name: str, variant: str, limit: int):
    """A study, a variant's completion prompts, and the first trials, with their orders."""
    study = STUDIES[name]
    trials = read_trials(study.stimuli_file, study, limit)
    (prompts,) = study.variants([variant], trials, "completion")
    return study, prompts, trials


def text_of(messages) -> str:
    text = bare_context(messages)
    assert text is not None
    return text


def shown(prompts, template: str, order: dict[str, Any]) -> list[str]:
    """The whole text of each example of a bank in the place of a template."""
    values = {**order, "examples": [one.name for one in prompts.bank.order]}
    return prompts._examples(template, values)


@pytest.mark.parametrize(("name", "variant"), WORDINGS)
def test_every_prompt_is_its_examples_and_then_the_text_up_to_the_answer(name, variant):
    study, prompts, trials = asked_as(name, variant, 3)
    for trial in trials:
        own = str(trial[prompts.bank.item])
        (asked,) = study.templates["exp1"]
        questions = [(asked, text_of(study.whole_chat(trial, prompts)), None)]
        questions += [
            (form.entry.template, text_of(query.messages), query.null())
            for form, query in zip(
                study.forms_asked(trial), study.queries(trial, prompts), strict=True
            )
        ]
        for template, text, null in questions:
            examples = shown(prompts, template, study.order(trial, prompts) or {})
            assert len(examples) == prompts.bank.number
            assert [text.count(example) for example in examples] == [1] * len(examples)
            places = [text.index(example) for example in examples]
            assert places == sorted(places)
            assert text.endswith(CUES), text[-30:]
            assert own not in prompts.bank.drawn(own)
            if null is not None:
                blank = text_of(null.messages)
                assert all(example in blank for example in examples)
                assert "N/A" in blank[blank.index(examples[-1]) + len(examples[-1]) :]
                assert null.lead == " "


@pytest.mark.parametrize(("name", "variant"), WORDINGS)
def test_bundled_examples_are_answered_as_the_study_reads_and_scores(name, variant):
    study, prompts, trials = asked_as(name, variant, 40)
    fill = Templates(prompts.folder / "completion").fill
    orders = prompts.wording.orders.get(name) if prompts.wording else None
    given: dict[str, list[str]] = {}
    for example in prompts.bank.examples:
        for order in combinations(orders) if orders else [{}]:
            values = {**example.values, **order}
            for template, answers in prompts.bank.answers.items():
                turns = [answers] if isinstance(answers, str) else list(answers.values())
                answer = "\n".join(fill(turn, values).strip() for turn in turns)
                assert shown(prompts, template, order)
                if template in study.templates["exp1"]:
                    like = trials[0].all() | (values if name == "refgame" else {})
                    found = study.parse(answer, like)
                    assert None not in found.fields.values(), answer
                else:
                    given.setdefault(template, []).append(answer)
    for form in study.query_forms if name != "refgame" else ():
        options = study.options(form, trials[0])
        assert set(given[form.entry.template]) <= set(options)
        if form.name in ("knowledge", "utterance"):  # none of the answers is favoured
            assert len({given[form.entry.template].count(option) for option in options}) == 1


def test_examples_of_the_reference_game_favour_no_place_of_a_list():
    _, prompts, _ = asked_as("refgame", "seed", 1)
    places = []
    for example in prompts.bank.examples:
        role, answer = example.values["role"], example.values["answer"]
        kind = "word" if role == "production" else "object"
        given = example.values.items()
        places += [name for name, value in given if value == answer and kind in name]
        said = answer if role == "production" else example.values["given"]
        objects = [example.values[f"object_{at}"].split() for at in (1, 2, 3)]
        assert sum(said in words for words in objects) == 1  # nothing is left to infer
    assert sorted(places) == sorted(
        [*(f"word_{at}" for at in (1, 2, 3, 4)), *(f"object_{at}" for at in (1, 2, 3))]
    )


# --- turns, system messages, orders ---------------------------------------------------------------


def test_turns_are_one_text_in_which_the_models_own_answers_stand():
    study, prompts, (trial,) = asked_as("study1", "human", 1)
    replies = [" Initial Answer: 2 ", "Probabilities: …\n"]
    texts = [text_of(study.messages(trial, prompts, replies[:turn])) for turn in range(3)]
    (order,) = [study.order(trial, prompts)]
    speech = study.values(trial)["speech"]
    assert texts[1].startswith(f"{texts[0]} Initial Answer: 2\nThe story goes on: {speech}\n")
    assert texts[2].startswith(f"{texts[1]} Probabilities: …\nQuestion: ")
    assert texts[2].endswith(f'as "Knowledge: [{"/".join(order["knowledge"])}]")\nAnswer:')
    # Examples stand at the beginning, and not again before later turns.
    assert len({text.count("Initial Answer: [") for text in texts}) == 1
    queries = {query.name: query for query in study.queries(trial, prompts)}
    question = text_of(queries["knowledge"].messages).rsplit("\n\n", 1)[1]
    assert question.count("Answer: Ready.\n") == 2
    assert question.startswith("Story: ")


class Scripted:
    """An engine that answers the three turns of study 1 and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def generate(self, requests):
        for request in requests:
            text = text_of(request.messages)
            self.asked.append((text, request.decoding.stop))
            answer = " Initial Answer: 1"
            if "\nThe story goes on" in text.rsplit("\n\n", 1)[1]:
                answer = " Probabilities: 0: 10%, 1: 60%, 2: 20%, 3: 10%"
            if text.rsplit("Question: ", 1)[1].count("Knowledge: ["):
                answer = " Knowledge: yes"
            yield Generation(request.key, answer, "stop")


def test_experiment_1_asks_turn_by_turn_and_reads_all_answers():
    study, prompts, trials = asked_as("study1", "human", 3)
    run, engine = Run("base", "model", study, "exp1", 0, 1000, True), Scripted()
    items = trial_prompts(run, trials, [prompts])
    records = list(run_generation(run, items, None, engine, Decoding(1.0, 1.0, 40)))
    assert len(engine.asked) == 9
    assert {stop for _, stop in engine.asked} == {("\n",)}
    for record in records:
        assert record["status"] == "ok"
        asked = [turn["messages"][0]["content"] for turn in record["turns"]]
        assert all(later.startswith(before) for before, later in pairwise(asked))
        found = study.parse(record["response"], trials[0].all())
        assert found.fields["Prior_A"] == 1
        assert found.fields["Knowledge_A"] == "yes"
        assert found.fields["probability_1"] == 60


def test_a_system_message_is_the_first_paragraph_and_nothing_else_differs():
    for name in ("study1", "study2"):
        study, plain, (trial,) = asked_as(name, "seed", 1)
        prompts = study.variant("seed-system", "completion")
        system = prompts.wording.system
        for one, other in zip(
            [q.messages for q in study.queries(trial, plain)] + [study.messages(trial, plain)],
            [q.messages for q in study.queries(trial, prompts)] + [study.messages(trial, prompts)],
            strict=True,
        ):
            assert text_of(other) == f"{system}\n\n{text_of(one)}"
        assert study.wording_facts(trial, prompts)["system_message"] == "yes"
        assert study.wording_facts(trial, prompts)["few_shot"]


@pytest.mark.parametrize(
    ("name", "lists"),
    [("study1", ("Initial Answer: [{}]", "numbers")), ("study2", ("then {})", "assessment"))],
)
def test_examples_list_options_in_the_order_of_their_trial(name, lists):
    study, prompts, trials = asked_as(name, "human", 24)
    form, listed = lists
    chat = study.variants(["human"], trials)[0]
    seen = set()
    for trial in trials:
        order = study.order(trial, prompts)
        assert order == study.order(trial, chat)  # as a chat's
        between = "/" if name == "study1" else ", "
        text = text_of(study.messages(trial, prompts))
        said = form.format(between.join(map(str, order[listed])))
        assert text.count(said) == prompts.bank.number + 1
        seen.add(tuple(order[listed]))
        if name == "study1":
            bets = f"Probabilities: {order['numbers'][0]}: "
            whole = text_of(study.messages(trial, prompts, [" Initial Answer: 1"]))
            assert whole.count(bets) == 2 * prompts.bank.number + 1
    assert len(seen) == 2


# --- banks ----------------------------------------------------------------------------------------


def copied_study(tmp_path: Path, name: str = "study1"):
    """A study with prompts of its own below `tmp_path`."""
    folder = tmp_path / "prompts"
    shutil.copytree(ROOT / "config/prompts", folder)
    known = STUDIES[name]
    declaration = known.declaration.model_copy(update={"prompts": str(folder)})
    return type(known)(name, known.folder, declaration, "study.yaml"), folder


def changed(path: Path, change: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))


@pytest.mark.parametrize(
    ("variant", "change", "message"),
    [
        ("seed", {"number": 7}, r"study1\.yaml: .*`number` is 7, but there are 6 examples"),
        ("seed", {"stop": []}, r"study1\.yaml: .*stop"),
        ("seed", {"item": "story"}, r"study1\.yaml: item: study1 has no column 'story'"),
        ("seed", {"nmber": 3}, r"study1\.yaml: unknown key 'nmber'"),
        ("seed", {"answers": {"x.j2": "y"}},
         r"`answers` is for x\.j2; must be one for each template of study1: study1_exp1"),
        ("seed", {"examples": [{"name": "a", "item": "b", "values": {"setup": "y"}}], "number": 1},
         r"examples, a, asked by study1_exp1\.j2: 'guess' is undefined\. Values a template"),
        ("seed", {"stop": ["\n"]}, r"examples, kettles, asked by study1_exp1\.j2: the answer holds"
         r" '\\n', before which answers end"),
        ("seed", {"extends": "seed"}, r"extends: names its own variant"),
        ("paraphrase1", {"extends": "human"}, r"'human' takes its examples from 'seed' itself"),
        ("paraphrase1", {"extends": "nowhere"}, r"'nowhere' has no examples of this study"),
        ("paraphrase1", {"extends": None}, r"lacks `item`, `number`, `stop`, `answers`"),
        ("paraphrase1", {"number": 7}, r"study1\.yaml: .*`number` is 7, but there are 6 examples"),
        ("human", {"answers": {"study1_exp1.j2": "a", "study1_exp2_prior.j2": "b",
                               "study1_exp2_state.j2": "c", "study1_exp2_knowledge.j2": "d"}},
         r"answers\.study1_exp1\.j2: must be an answer for each turn.*: prior, bets, knowledge"),
        ("human", {"answers": {"study1_exp1.j2": {"prior": " ", "bets": "b", "knowledge": "c"},
                               "study1_exp2_prior.j2": "b", "study1_exp2_state.j2": "c",
                               "study1_exp2_knowledge.j2": "d"}},
         r"kettles, asked by study1_exp1\.j2: the answer is empty"),
        ("human", {"stop": ["dy."]}, r"turns\.study1_exp2_.*the reply 'Ready\.' holds 'dy\.'"),
    ],
)  # fmt: skip
def test_a_bank_that_cannot_be_is_refused_with_file_and_key(tmp_path, variant, change, message):
    study, folder = copied_study(tmp_path)
    changed(folder / variant / "completion/study1.yaml", change)
    with pytest.raises(ConfigError, match=message):
        study.variant(variant, "completion")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"numbers": "1"}, r"kettles: values: numbers is what .*variant\.yaml calls an order"),
        ({"prior_bet": "5\n"}, r"kettles, asked by .*prior\.j2: the answer holds '\\n'"),
        ({"speech": "a <|im_end|>"}, r"kettles, asked by .*<\|im_end\|>, a control token"),
        ({"things": "\u202e"}, r"kettles, asked by .*U\+202E"),
    ],
)
def test_an_example_that_cannot_be_asked_is_refused_by_name(tmp_path, value, message):
    study, folder = copied_study(tmp_path)
    path = folder / "seed/completion/study1.yaml"
    bank = yaml.safe_load(path.read_text())
    bank["examples"][0]["values"] |= value
    path.write_text(yaml.safe_dump(bank))
    with pytest.raises(ConfigError, match=message):
        study.variant("human", "completion")


def test_a_shared_bank_counts_in_every_variant_that_takes_it(tmp_path):
    study, folder = copied_study(tmp_path)
    names = study.templates["exp2"]
    before = {one: study.variant(one, "completion").digest(names) for one in VARIANTS}
    assert len(set(before.values())) == len(VARIANTS)
    files = study.variant("paraphrase1", "completion").files(names)
    assert {path.parent.parent.name for path in files if path.suffix == ".yaml"} == {
        "paraphrase1", "seed",
    } | {"prompts"}  # fmt: skip
    path = folder / "seed/completion/study1.yaml"
    path.write_text(path.read_text().replace("seldom leak", "often leak"))
    after = {one: study.variant(one, "completion").digest(names) for one in VARIANTS}
    assert all(before[one] != after[one] for one in VARIANTS)
    # What no text holds changes nothing.
    path.write_text(path.read_text().replace("    values:\n", "    values:\n      unused: 1\n"))
    assert after == {one: study.variant(one, "completion").digest(names) for one in VARIANTS}


def test_a_variant_without_texts_to_continue_is_refused_in_plain_words(tmp_path):
    study, folder = copied_study(tmp_path)
    shutil.rmtree(folder / "paraphrase1/completion")
    with pytest.raises(ConfigError, match=r"paraphrase1/completion: no such folder.*leave the"):
        study.variant("paraphrase1", "completion")
    template = folder / "seed/completion/study1_exp1.j2"
    template.write_text("Story: {{ setup }}")
    (trial,) = read_trials(study.stimuli_file, study, 1)
    with pytest.raises(ConfigError, match=r"study1_exp1\.j2: leaves out `examples`"):
        study.messages(trial, study.variant("seed", "completion"))


def test_a_models_own_answer_stands_in_the_text_as_it_is():
    study, prompts, (trial,) = asked_as("study1", "human", 1)
    numbers = random.Random(0)
    for _ in range(200):
        reply = "".join(map(chr, numbers.choices(range(32, 0x2FF), k=30)))
        text = text_of(study.messages(trial, prompts, [reply]))
        assert reply.rstrip() in text
        assert text.endswith("Answer:")
