"""The wording of the variant `seed`, on the bundled trials.

golden/*.txt hold prompts as a model gets them. After a change that is meant, write them anew with
`python tests/unit/test_prompts.py`, and read them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from grace.errors import ConfigError
from grace.prompts import PromptSet
from grace.stimuli import read_trials
from grace.studies.study1 import Study1Trial
from grace.studies.study1_answers import Study1
from grace.studies.study2 import UTTERANCES, Study2Trial
from grace.studies.study2_answers import Study2

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
SEED = PromptSet(ROOT / "config" / "prompts" / "seed")


@cache
def study1_trials() -> list[Study1Trial]:
    trials = read_trials(ROOT / "resources" / "stimuli" / "study1.csv", Study1())
    return [trial for trial in trials if isinstance(trial, Study1Trial)]


@cache
def study2_trials() -> list[Study2Trial]:
    trials = read_trials(ROOT / "resources" / "stimuli" / "study2.csv", Study2())
    return [trial for trial in trials if isinstance(trial, Study2Trial)]


def study1_prompts(trial: Study1Trial) -> dict[str, str]:
    """Text by name: exp1, state0 to state3, knowledge."""
    messages = {query.name: query.messages for query in Study1().queries(trial, SEED)}
    messages["exp1"] = Study1().messages(trial, SEED)
    assert {(len(m), m[0]["role"]) for m in messages.values()} == {(1, "user")}
    return {name: message[0]["content"] for name, message in messages.items()}


def golden_prompts() -> dict[str, str]:
    """The first participant's six stories, and three trials that differ in goal and hearts."""
    texts = {}
    for trial in study1_trials()[:6]:
        prompts = study1_prompts(trial)
        texts[f"study1_{trial.story_shortname}_exp1"] = prompts["exp1"]
        texts[f"study1_{trial.story_shortname}_state1"] = prompts["state1"]
    texts["study1_seeds_knowledge"] = prompts["knowledge"]
    for trial2 in study2_trials()[:3]:
        texts[f"study2_{trial2.Domain}"] = Study2().messages(trial2, SEED)[0]["content"]
    return texts


@pytest.mark.parametrize("name", [path.stem for path in sorted(GOLDEN.glob("*.txt"))])
def test_golden_prompt(name: str) -> None:
    text = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert golden_prompts()[name] + "\n" == text


def test_every_golden_prompt_is_kept() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == sorted(golden_prompts())


def all_prompts() -> list[str]:
    study1 = [text for trial in study1_trials() for text in study1_prompts(trial).values()]
    return study1 + [Study2().messages(trial, SEED)[0]["content"] for trial in study2_trials()]


@pytest.mark.parametrize(
    "fault",
    [
        r"<br",  # markup
        r"[{}]|None\b",  # values left out
        r"\n\n\n| \n| $|  ",  # stray white space
        r"\bYou are\b",  # nobody is asked to be Emma
        r"the property",  # each story has a phrase of its own
        r"\b1 hearts|\b[023] heart\b",
        r"\b1 of the \w+ (have|are|were|hold|deserve)\b",
        r"\b[23] of the \w+ (has|is|was|holds|deserves)\b",
        r"exactly \d (of|exams|letters|tickets|fruits|phones|seeds)",
        r"\bIt was (fine|dull|great|odd|lovely)\b",  # the leftover column
    ],
)
def test_faults_are_absent(fault: str) -> None:
    assert not [text for text in all_prompts() if re.search(fault, text)][:1]


def test_study1_each_story_asks_about_its_own_property() -> None:
    properties: dict[str, set[str]] = {}
    for trial in study1_trials():
        for state in range(4):
            text = study1_prompts(trial)[f"state{state}"]
            found = re.search(r"that the number of (.+) is exactly (\d)\?", text)
            assert found is not None
            assert found[2] == str(state)
            properties.setdefault(trial.story_shortname, set()).add(found[1])
    assert all(len(found) == 1 for found in properties.values())
    assert len(set.union(*properties.values())) == 6


def test_study1_exp1_asks_before_it_tells() -> None:
    trial = study1_trials()[1]
    text = study1_prompts(trial)["exp1"]
    parts = [trial.priorQ, trial.speach, trial.speachQ, trial.knowledgeQ, "Initial Answer: [0-3]"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert text.endswith(
        "Initial Answer: [0-3]\n"
        "Probabilities: 0: [X]%, 1: [X]%, 2: [X]%, 3: [X]%\n"
        "Knowledge: [yes/no]"
    )


def test_study1_queries_and_their_options() -> None:
    queries = Study1().queries(study1_trials()[0], SEED)
    assert [query.name for query in queries] == [*(f"state{s}" for s in range(4)), "knowledge"]
    assert {query.options for query in queries[:4]} == {
        ("0%", "10%", "20%", "30%", "40%", "50%", "60%", "70%", "80%", "90%", "100%")
    }
    assert queries[4].options == ("yes", "no")


def test_study2_states_scale_hearts_and_goal() -> None:
    for trial in study2_trials():
        text = Study2().messages(trial, SEED)[0]["content"]
        assert "On a scale of 0 to 3 hearts" in text
        assert f" {trial.State}." in text
        assert f"\n{trial.Goal}, what would {trial.SP_Name} be most likely to say?\n" in text
        assert text.endswith("It [was/wasn't] [terrible/bad/good/amazing]")


def test_study2_one_query_of_eight_utterances() -> None:
    (query,) = Study2().queries(study2_trials()[0], SEED)
    assert query.options == tuple(UTTERANCES)
    assert len(set(query.options)) == 8
    assert query.messages == Study2().messages(study2_trials()[0], SEED)


@pytest.mark.parametrize("label", ["informative", "social", "both"])
def test_study2_a_bare_goal_becomes_a_clause(label: str) -> None:
    trial = study2_trials()[0].model_copy(update={"Goal": label})
    text = Study2().messages(trial, SEED)[0]["content"]
    assert f"\nIf {trial.SP_Name} wanted " in text
    as_clause = re.search(r"\n(If .+), what would", text)
    assert as_clause is not None
    assert trial.model_copy(update={"Goal": as_clause[1]}).goal_simplified == label


def test_study2_a_goals_own_comma_is_not_doubled() -> None:
    trial = study2_trials()[0]
    comma = trial.model_copy(update={"Goal": f"{trial.Goal}, "})
    assert Study2().messages(comma, SEED) == Study2().messages(trial, SEED)


@pytest.mark.parametrize("mark", ["<br>", "<br/>", " <BR />\n", "<br> "])
def test_study1_line_breaks(mark: str) -> None:
    trial = study1_trials()[0].model_copy(update={"story_setup": f"One.{mark}Two."})
    assert study1_prompts(trial)["state0"].startswith("One.\nTwo.\n\n")


def test_unknown_variant() -> None:
    with pytest.raises(ConfigError, match=r"unknown variant 'sead'.*Prompt variants here: .*seed"):
        PromptSet(ROOT / "config" / "prompts" / "sead")


def test_missing_template(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the template study2_exp1\.j2 is missing"):
        PromptSet(tmp_path).render("study2_exp1.j2", {})


def test_a_template_with_an_unknown_value_names_the_known(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text("{{ spekaer }}")
    with pytest.raises(ConfigError, match=r"a\.j2: 'spekaer' is undefined.*: goal, speaker\."):
        PromptSet(tmp_path).render("a.j2", {"speaker": "Lin", "goal": "both"})


def test_digest_covers_includes_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text('{% include "_b.j2" %}')
    (tmp_path / "_b.j2").write_text("one")
    (tmp_path / "other.j2").write_text("one")
    before = PromptSet(tmp_path).digest(["a.j2"])
    (tmp_path / "other.j2").write_text("two")
    assert PromptSet(tmp_path).digest(["a.j2"]) == before
    (tmp_path / "_b.j2").write_text("two")
    assert PromptSet(tmp_path).digest(["a.j2"]) != before


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, text in golden_prompts().items():
        (GOLDEN / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
