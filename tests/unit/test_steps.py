"""The table of steps and the workflow's rules are the same; what derives from it adds up."""

from __future__ import annotations

import pytest

from grace import steps
from grace.errors import GraceError
from grace.steps import STEPS, RuleFacts

STUDIES = ("study1", "mine")


def as_they_are() -> dict[str, RuleFacts]:
    return {
        rule: RuleFacts(step.group, frozenset(step.wildcards))
        for step in STEPS.values()
        for rule in step.rules(STUDIES)
    }


def refused(rules: dict[str, RuleFacts]) -> str:
    with pytest.raises(GraceError) as refusal:
        steps.check(rules, STUDIES)
    return str(refusal.value)


def test_rules_that_are_the_steps_pass():
    steps.check(as_they_are(), STUDIES)


def test_a_rule_without_a_step_and_a_step_without_a_rule_are_refused_by_name():
    rules = as_they_are()
    rules["weigh"] = rules.pop("analysis_mine")
    message = refused(rules)
    assert "rule 'weigh' is no step: add a row for it" in message
    assert "step 'analysis' has no rule 'analysis_mine': write it in workflow/rules" in message


def test_another_group_or_other_wildcards_than_the_step_has_are_refused():
    rules = as_they_are()
    rules["validate"] = RuleFacts("report", frozenset({"model"}))
    message = refused(rules)
    assert "rule 'validate' says `group: report`, and its step tables" in message
    assert "wildcards model, and its step model, replication" in message


@pytest.mark.parametrize(
    ("group", "theirs", "minutes"),
    [
        ("inference", ["exp1", "exp2"], 20),
        ("tables", ["exp1", "exp2"], 15 * (2 * 3 + 1)),
        ("tables", ["exp1"], 15 * (2 * 2 + 1)),
        # `merge`, `reference`, `fit`, an analysis of each study; report and trial browser.
        ("report", ["exp2"], 30 * (2 * 4 + 2)),
    ],
)
def test_a_pods_time_is_that_of_its_jobs(group, theirs, minutes):
    assert steps.pod_minutes(group, dict.fromkeys(STUDIES, theirs)) == minutes


def test_jobs_that_ask_are_one_for_each_study_and_experiment_that_it_has():
    asked = {"study1": ["exp1", "exp2"], "mine": ["exp2"]}
    assert steps.asking_jobs(asked) == 3
    assert steps.pod_minutes("tables", asked) == 15 * (3 + 1 + 1)


def test_a_rule_of_a_study_belongs_to_its_step():
    assert steps.of_rule("analysis_mine") is STEPS["analysis"]
    assert steps.of_rule("reference") is STEPS["reference"]
    assert steps.of_rule("weigh") is None
