"""The steps of the workflow, said once: what every rule is, which jobs it has, what a job needs.

All that has to know the whole of it derives from `STEPS`: the files that a run makes, resources,
pods, the cluster's policy, the forecast, and the test of what makes outputs stale. `check` refuses
a rule without a row and a row without a rule when the workflow is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from grace.errors import GraceError

#: Jobs of one group become one pod: of a model's replication, of a recipe or its training seed, or
#: for `report` of the whole run.
Group = Literal[
    "inference", "tables", "report", "training_data", "training_pairs", "training_round"
]  # fmt: skip
#: The experiments that a run asks of each of its studies.
Asked = Mapping[str, Collection[str]]
#: Stands among a study's experiments where a language model reads its answers.
EXTRACTION = "extraction"
REPLICATION = ("model", "replication")
TRIALS = (*REPLICATION, "study")
RECIPE = ("recipe",)
TRAINING = (*RECIPE, "training_seed")
ROUND = (*TRAINING, "round")


@dataclass(frozen=True)
class Step:
    """A rule; where `rule_per_study`, a rule for every study, `<name>_<study>`.

    Attributes:
        group: None for what runs on request alone, beside the results, and for what of a recipe
            has a pod of its own.
        wildcards: Of the rule's outputs.
        experiment: The one that it belongs to, or `EXTRACTION`; None for what every run has.
        model: It works with the model: where it fails, so would its other replications.
        trains: A step of a recipe that computes: with its base, or on its adapter.
        mem_mb: Memory of its first attempt, in units of 10^6 bytes; a job that belongs to an
            experiment and works with the model takes what the model needs.
        minutes: Time of a job; of those, a share of the model's `runtime_min`.
    """

    name: str
    group: Group | None = None
    wildcards: tuple[str, ...] = ()
    experiment: str | None = None
    model: bool = False
    rule_per_study: bool = False
    trains: bool = False
    mem_mb: int = 0
    minutes: int = 0

    @property
    def asks(self) -> bool:
        """Whether its jobs compute with the model, and need what that needs."""
        return self.model and self.experiment is not None

    @property
    def of_recipe(self) -> bool:
        """Whether it is a step of a recipe's training."""
        return "recipe" in self.wildcards

    def rules(self, studies: Iterable[str]) -> list[str]:
        """Names of its rules in a run of these studies."""
        return [f"{self.name}_{study}" for study in studies] if self.rule_per_study else [self.name]

    def studies(self, asked: Asked) -> list[str]:
        """The studies of a run that have the step's experiment; all, if it belongs to none."""
        return [name for name, theirs in asked.items() if self.experiment in (None, *theirs)]

    def jobs_in_pod(self, asked: Asked) -> int:
        """Its jobs in one pod of a run."""
        per_study = self.rule_per_study or "study" in self.wildcards
        return len(self.studies(asked)) if per_study else 1


# A pod that asks for one core and 2,000 MB is too small for any cluster's rules on idle resources.
_TABLE = (
    Step("plan", "inference", REPLICATION, model=True, mem_mb=1000, minutes=10),
    Step("generate", "inference", TRIALS, "exp1", model=True),
    Step("score", "inference", TRIALS, "exp2", model=True),
    Step("collect", "inference", REPLICATION, mem_mb=1000, minutes=10),
    Step("tabulate", "tables", TRIALS, "exp1", mem_mb=2000, minutes=15),
    Step("extract", "tables", TRIALS, EXTRACTION, mem_mb=2000, minutes=120),
    Step("structure", "tables", TRIALS, "exp1", mem_mb=2000, minutes=15),
    Step("probabilities", "tables", TRIALS, "exp2", mem_mb=2000, minutes=15),
    Step("validate", "tables", REPLICATION, mem_mb=2000, minutes=15),
    Step("merge", "report", ("study",), mem_mb=4000, minutes=30),
    Step("reference", "report", ("study",), mem_mb=4000, minutes=30),
    Step("fit", "report", ("study",), mem_mb=4000, minutes=30),
    Step("analysis", "report", rule_per_study=True, mem_mb=4000, minutes=30),
    Step("report", "report", mem_mb=4000, minutes=30),
    Step("trial_browser", "report", mem_mb=4000, minutes=30),
    # Of recipes, which plans of their checkpoints ask for; without a group each has its own pod.
    Step("instructions", "training_data", RECIPE, trains=True),
    Step("answers", "training_data", RECIPE, trains=True),
    Step("judge", "training_data", RECIPE, trains=True),
    Step("sample", wildcards=RECIPE, mem_mb=2000, minutes=15),
    Step("select", wildcards=RECIPE, mem_mb=2000, minutes=30),
    Step("sft", wildcards=TRAINING, trains=True),
    Step("candidates", "training_pairs", TRAINING, trains=True),
    Step("judge_pairs", "training_pairs", TRAINING, trains=True),
    Step("pairs", wildcards=TRAINING, mem_mb=2000, minutes=30),
    Step("dpo", wildcards=TRAINING, trains=True),
    Step("online_candidates", "training_round", ROUND, trains=True),
    Step("online_judge", "training_round", ROUND, trains=True),
    Step("online_pairs", wildcards=ROUND, mem_mb=2000, minutes=30),
    Step("online_dpo", wildcards=ROUND, trains=True),
    Step("evaluate", wildcards=(*RECIPE, "evaluated"), trains=True),
    Step("compare", wildcards=RECIPE, mem_mb=2000, minutes=30),
    Step("training_costs", wildcards=RECIPE, mem_mb=2000, minutes=15),
    Step("model_card", wildcards=(*TRAINING, "stage"), mem_mb=2000, minutes=15),
    Step("contamination", wildcards=RECIPE, mem_mb=2000, minutes=30),
    # On request; `all` asks for what the others make.
    Step("all"),
    Step("approve"),
    Step("archive"),
    Step("check_study", mem_mb=4000, minutes=30),
    Step("figures_pdf"),
    Step("forecast"),
    Step("ifeval_export"),
    Step("inspect_export"),
    Step("inspect_logs"),
    Step("job_logs"),
    Step("manifests"),
    Step("new_study", minutes=5),
    Step("policy"),
    Step("prefetch"),
    Step("psych_ds"),
    Step("review_agreement"),
    Step("review_sheet"),
    # Where a review sheet lies, for the report.
    Step("reviewed"),
    # Of models that reason, whose runs ask for it beside `all`'s other files.
    Step("traces", wildcards=TRIALS, mem_mb=2000, minutes=15),
    Step("train_pico", mem_mb=4000, minutes=180),
    Step("verify"),
)
STEPS: Mapping[str, Step] = {step.name: step for step in _TABLE}


def of_rule(rule: str) -> Step | None:
    """The step that a rule belongs to; None for a rule of somebody else's."""
    if rule in STEPS:
        return STEPS[rule]
    named = (step for step in _TABLE if step.rule_per_study and rule.startswith(f"{step.name}_"))
    return next(named, None)


def in_run(asked: Asked, group: Group | None = None) -> Iterator[Step]:
    """The steps of a run's studies, in their order; of one group, if it is given."""
    for step in _TABLE:
        if step.group is None or step.of_recipe:
            continue
        if group in (None, step.group) and step.studies(asked):
            yield step


def pod_minutes(group: Group, asked: Asked) -> int:
    """Minutes of the jobs of one pod, one after the other, but those that ask the model."""
    return sum(step.minutes * step.jobs_in_pod(asked) for step in in_run(asked, group))


def asking_jobs(asked: Asked) -> int:
    """Jobs of one pod that compute with its model."""
    return sum(step.jobs_in_pod(asked) for step in in_run(asked) if step.asks)


def pod_memory(group: Group) -> int:
    """Memory of a pod of the group, whose jobs run one after the other."""
    return max(step.mem_mb for step in _TABLE if step.group == group)


@dataclass(frozen=True)
class RuleFacts:
    """What a rule says of itself: its group, and the wildcards of its outputs."""

    group: str | None
    wildcards: frozenset[str]


def check(rules: Mapping[str, RuleFacts], studies: Collection[str]) -> None:
    """Raise `GraceError` where the workflow's rules are not those of the table."""
    wrong = []
    expected = {rule: step for step in _TABLE for rule in step.rules(studies)}
    for name in sorted(rules.keys() - expected.keys()):
        wrong.append(
            f"rule '{name}' is no step: add a row for it to `STEPS` in workflow/lib/grace/steps.py"
            " (its group, wildcards, experiment, memory, minutes), or remove it from workflow/rules"
        )
    for name in sorted(expected.keys() - rules.keys()):
        wrong.append(
            f"step '{expected[name].name}' has no rule '{name}': write it in workflow/rules and"
            " include the file in workflow/Snakefile, or remove the step's row from `STEPS` in"
            " workflow/lib/grace/steps.py"
        )
    for name in sorted(expected.keys() & rules.keys()):
        step, facts = expected[name], rules[name]
        if facts.group != step.group:
            wrong.append(
                f"rule '{name}' says `group: {facts.group}`, and its step {step.group}: correct one"
            )
        if facts.wildcards != set(step.wildcards):
            wrong.append(
                f"rule '{name}' has the wildcards {_names(facts.wildcards)}, and its step"
                f" {_names(step.wildcards)}: correct one"
            )
    if wrong:
        raise GraceError("\n".join(["The workflow and its table of steps differ:", *wrong]))


def _names(wildcards: Iterable[str]) -> str:
    return ", ".join(sorted(wildcards)) or "none"
