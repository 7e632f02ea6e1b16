"""The bundled trial files: what the script makes, balanced, and readable as they stand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bundled_studies import STUDY1, STUDY2

from grace.studies.stimuli import read_trials
from grace.studies.trials import Trial
from tools import make_stimuli

ROOT = Path(__file__).parents[2]
STIMULI = ROOT / "resources" / "stimuli"
DOMAINS = (
    *("presentation", "cookie", "poem", "cake", "song", "film"),
    *("solo", "dance", "painting", "app", "review", "recital"),
)


def _study1() -> list[Trial]:
    return read_trials(STIMULI / "study1.csv", STUDY1)


def _study2() -> list[Trial]:
    return read_trials(STIMULI / "study2.csv", STUDY2)


def _spread(counts: Counter[object]) -> int:
    return max(counts.values()) - min(counts.values())


def test_the_script_makes_the_committed_files(tmp_path: Path) -> None:
    made = (tmp_path / "study1.csv", tmp_path / "study2.csv")
    make_stimuli.make_stimuli(STIMULI / "stories.yaml", *made)
    for path in made:
        assert path.read_bytes() == (STIMULI / path.name).read_bytes(), (
            "run `python scripts/tools/make_stimuli.py`"
        )


def test_columns_are_the_original_ones() -> None:
    headers = [
        (STIMULI / name).read_text(encoding="utf-8").split("\n", 1)[0]
        for name in ("study1.csv", "study2.csv")
    ]
    assert headers == [
        "participant_id,story_shortname,story_setup,priorQ,speach,speachQ,knowledgeQ,access,observe",
        "Participant_ID,Domain,Precontext,Scenario,Utterance,Goal,State,SP_Name,LS_Name",
    ]


def test_study1_is_balanced() -> None:
    trials = _study1()
    assert len(trials) == 300
    assert len({t["participant_id"] for t in trials}) == 50
    stories = {"exams", "letters", "tickets", "fruits", "phones", "seeds"}
    assert {t["story_shortname"] for t in trials} == stories
    cells = Counter((t["access"], t["observe"]) for t in trials)
    assert cells == dict.fromkeys([(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)], 50)
    within = Counter((t["story_shortname"], t["access"], t["observe"]) for t in trials)
    assert len(within) == 36
    assert _spread(within) <= 1


def test_study2_is_balanced() -> None:
    trials = _study2()
    assert len(trials) == 2424
    assert len({t["Participant_ID"] for t in trials}) == 202
    assert Counter(t["Domain"] for t in trials) == dict.fromkeys(DOMAINS, 202)
    cells = Counter((t["State_number"], t["Goal_simplified"]) for t in trials)
    assert cells == {
        (state, goal): 202 for state in range(4) for goal in ("informative", "social", "both")
    }
    within = Counter((t["Domain"], t["State_number"], t["Goal_simplified"]) for t in trials)
    assert len(within) == 144
    assert _spread(within) <= 1


def test_every_participant_meets_every_cell_once() -> None:
    assert len({(t["participant_id"], t["access"], t["observe"]) for t in _study1()}) == 300
    cells = {(t["Participant_ID"], t["State_number"], t["Goal_simplified"]) for t in _study2()}
    assert len(cells) == 2424


def test_study1_utterances_agree_in_number() -> None:
    for trial in _study1():
        said = trial["speach"].partition(
            f"and {trial['observe']} of the {trial['story_shortname']} "
        )[2]
        verbs = "deserves holds is has" if trial["observe"] == 1 else "deserve hold are have"
        assert said.split(" ")[0] in verbs.split(" "), trial["speach"]


def test_study1_texts_belong_together() -> None:
    for trial in _study1():
        name = trial["knowledgeQ"].split(" know precisely")[0].rsplit(" ", 1)[1]
        assert all(
            name in text for text in (trial["story_setup"], trial["speach"], trial["speachQ"])
        )
        predicate = STUDY1.values(trial)["things"].split(" that ", 1)[1]
        for question in (trial["priorQ"], trial["speachQ"], trial["knowledgeQ"]):
            assert question.endswith(f"{predicate}?")
        assert f"{trial['access']} of the 3 " in trial["speach"]


def test_study2_texts_belong_together() -> None:
    for trial in _study2():
        assert trial["SP_Name"] != trial["LS_Name"]
        assert trial["Precontext"].startswith(f"{trial['LS_Name']} ")
        assert f"{trial['LS_Name']} asks {trial['SP_Name']}: " in trial["Scenario"]
        assert trial["Goal"].startswith(f"If {trial['SP_Name']} wanted ")
        assert trial["LS_Name"] in trial["Goal"]
        assert f"my {trial['Domain']}" in trial["Scenario"]


def test_study2_goals_name_both_motives() -> None:
    for trial in _study2():
        assert "informative" in trial["Goal"]
        assert "feel good" in trial["Goal"] or "pleased" in trial["Goal"]


def test_study2_utterance_says_nothing_about_the_cell() -> None:
    """It is a leftover: every phrase goes with every cell."""
    pairs = {(t["Utterance"], t["State"], t["Goal_simplified"]) for t in _study2()}
    assert len(pairs) == 5 * 12


def test_names_vary() -> None:
    trials = _study2()
    assert len({t["SP_Name"] for t in trials}) == len({t["LS_Name"] for t in trials}) == 50
    for participant in ("1", "101", "202"):
        mine = [t for t in trials if t["Participant_ID"] == participant]
        assert len({name for t in mine for name in (t["SP_Name"], t["LS_Name"])}) == 24
