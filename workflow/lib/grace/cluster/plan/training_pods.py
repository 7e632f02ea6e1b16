"""The pods of recipes: what asks a base or checkpoint, what trains, and what only counts. Pure.

Steps of one group share a pod, and so a server: the base's own, from instructions to judgements,
and that of an SFT checkpoint's candidates. A training has a pod of its own, with one GPU on which
it fits; an adapter lies in the results, on the project's volume.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from grace import steps
from grace.cluster.plan import sizes, timeouts
from grace.cluster.plan.placement import Placement, needs_gpu
from grace.cluster.plan.pods import PodRequest, dns_name
from grace.cluster.plan.sizes import CLIENT_CORES, CPU_CORES, DISK_MB
from grace.forecast.recipe_site import site_of
from grace.forecast.recipe_steps import (
    EVALUATE,
    ROUND,
    SEEDED,
    SHARED,
    estimate,
    evaluations,
    shares_server,
)
from grace.posttraining.checkpoints import SFT, TRAINS
from grace.posttraining.recipe_runs import RecipeRun
from grace.settings.project import Project

COMMAND = ("snakemake",)
#: Pods of trainings of one recipe that may run at once, each with a GPU.
TRAININGS_AT_ONCE = 3
#: Steps that compute, in the order of their pods.
_STEPS = (*SHARED, *SEEDED, *ROUND, EVALUATE)
#: Memory of a training on cores: torch, TRL and a small base.
CORES_MB = 8000


def loads(recipe: str, rule: str) -> str:
    """What stands for the model that a recipe's pod loads, among the run's models.

    No recipe's name and no checkpoint's has such an end.
    """
    return f"{recipe}.{'training' if rule in TRAINS else 'base'}"


def pod_rule(step: str) -> str:
    """The group of a step, or the step itself, as its pod is called."""
    return steps.STEPS[step].group or step


def placements(project: Project, recipe: str, rule: str) -> list[Placement]:
    """Where a recipe's pods of a rule may run, in order; empty where it needs no GPU.

    Raises `ConfigError` where the base or its training fits no tag.
    """
    step = steps.STEPS.get(rule)
    if step is not None and not step.trains:
        return []
    if rule in TRAINS:
        return [place.placement for place in project.training_places[recipe]]
    return project.recipe_placements[recipe]


def loaded(project: Project) -> dict[str, tuple[list[Placement], int]]:
    """All that pods of recipes load: where it may run, and how many such pods at once."""
    found = {}
    for name in project.trainings:
        found[loads(name, "answers")] = (placements(project, name, "answers"), 1)
        found[loads(name, "sft")] = (placements(project, name, "sft"), TRAININGS_AT_ONCE)
    return found


def step_memory_mb(project: Project, run: RecipeRun, step: str, first: Placement | None) -> int:
    """Memory of a job of a step that computes; its first attempt's, without /dev/shm."""
    if first is not None:
        return sizes.mib_to_mb(first.memory_mib)
    return CORES_MB if step in TRAINS else run.base_entry.engine_spec.cpu_memory_mb


def step_minutes(project: Project, recipe: str, step: str, seed: int | None) -> int:
    """Minutes after which a job of a step is ended: several times what is forecast of it.

    Where that is more than the cluster's pods may take, and what is expected is not, it is cut.
    """
    return _minutes(project, recipe, pod_rule(step), seed)[step]


@lru_cache(maxsize=256)
def _minutes(project: Project, recipe: str, rule: str, seed: int | None) -> dict[str, int]:
    expected = _slowest(project, recipe, rule, seed)
    most = project.cluster.policy.max_hours_per_pod
    found = {
        step: timeouts.UNKNOWN_MIN if took is None
        else max(timeouts.LEAST_MIN, timeouts.timeout(took))
        for step, took in expected.items()
    }  # fmt: skip
    first = _expected(project, recipe, rule, seed).values()
    known = sum((took or 0.0) / 60 for took in first)
    total = sum(found.values())
    if most is None or total <= most * 60 or known > most * 60:
        return found
    return {step: max(1, int(each * most * 60 / total)) for step, each in found.items()}


def _slowest(project: Project, recipe: str, rule: str, seed: int | None) -> dict[str, float | None]:
    """The same on the slowest of the tags that the pod may move to, whose time-out it keeps."""
    tags: list[str | None] = [one.tag for one in placements(project, recipe, rule)] or [None]
    each = [_expected(project, recipe, rule, seed, tag) for tag in tags]
    known = {step: [one[step] for one in each] for step in each[0]}
    return {
        step: None if None in took else max(one or 0.0 for one in took)
        for step, took in known.items()
    }


def _expected(
    project: Project, recipe: str, rule: str, seed: int | None, tag: str | None = None
) -> dict[str, float | None]:
    """Seconds that are expected of each step in a pod; None where they are not known."""
    site = site_of(project, project.trainings[recipe], CPU_CORES, tag)
    own = [step for step in _STEPS if pod_rule(step) == rule]
    return {
        step: estimate(site, step, seed, starts=shares_server(step) not in own).seconds
        for step in own
    }


def expected_minutes(
    project: Project, recipe: str, rule: str, seed: int | None, tag: str | None = None
) -> float | None:
    """Minutes that a pod is expected to take on a tag or its first; None where not known."""
    found = _expected(project, recipe, rule, seed, tag).values()
    known = [took for took in found if took is not None]
    return sum(known) / 60 + timeouts.AROUND_MIN if len(known) == len(found) else None


def expected(project: Project) -> dict[tuple[str, str], float]:
    """The same for all pods of recipes that compute, by rule or group and what they load."""
    found = {}
    for name, run in project.trainings.items():
        rounds = ROUND if run.recipe.online_rounds else ()
        of_seed = _rules((*SEEDED, *rounds))
        for rule in (*_rules(SHARED), *of_seed, EVALUATE):
            seed = run.seeds[0] if rule in of_seed else None
            minutes = expected_minutes(project, name, rule, seed)
            if minutes is not None:
                found[rule, loads(name, rule)] = minutes
    return found


def _rules(of: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(map(pod_rule, of)))


def training_pods(project: Project) -> list[PodRequest]:
    """Every pod of the recipes of a run, on its first tag. Raises `ConfigError`."""
    found = []
    for run in project.trainings.values():
        found += [_pod(project, run, rule, None) for rule in _rules(SHARED)]
        found += [_plain(project, run, step, None) for step in ("sample", "select")]
        for seed in run.seeds:
            found += _pods_of_seed(project, run, seed)
        evaluated = evaluations(run.evaluated(project.checkpoints_wanted))
        found += [_evaluation(project, run, step) for step in evaluated]
        found += [_plain(project, run, "compare", None)] if evaluated else []
        found += [_plain(project, run, step, None) for step in ("training_costs", "contamination")]
    return found


def _pods_of_seed(project: Project, run: RecipeRun, seed: int) -> list[PodRequest]:
    stages = run.needed(project.checkpoints_wanted, seed)
    if not stages:
        return []
    found = [_pod(project, run, SFT, seed)]
    if len(stages) > 1:
        found += [_pod(project, run, rule, seed) for rule in _rules(SEEDED) if rule != SFT]
        found.append(_plain(project, run, "pairs", seed))
    for number in range(1, 1 + run.rounds(project.checkpoints_wanted, seed)):
        own = [_pod(project, run, rule, seed) for rule in _rules(ROUND)]
        own.append(_plain(project, run, "online_pairs", seed))
        name = f"grace-{run.name}-{{}}-{seed}-round-{number}"
        found += [replace(pod, name=dns_name(name.format(pod.rule))) for pod in own]
    return found + [_plain(project, run, "model_card", seed)] * len(stages)


def fallback_training_pods(project: Project) -> list[PodRequest]:
    """A pod of each kind on every further tag that it may move to."""
    found: dict[tuple[str, str | None, str], PodRequest] = {}
    for pod in training_pods(project):
        if pod.placement is None or pod.recipe is None:
            continue
        for other in placements(project, pod.recipe, pod.rule)[1:]:
            seed = pod.training_seed
            found.setdefault(
                (pod.rule, pod.model, other.tag),
                replace(
                    pod,
                    placement=other,
                    name=dns_name(f"{pod.name}-on-{other.tag}"),
                    expected_min=expected_minutes(project, pod.recipe, pod.rule, seed, other.tag),
                ),
            )
    return list(found.values())


def _pod(project: Project, run: RecipeRun, rule: str, seed: int | None) -> PodRequest:
    first = next(iter(placements(project, run.name, rule)), None)
    step = next(one for one in _STEPS if pod_rule(one) == rule)
    minutes = _minutes(project, run.name, rule, seed)
    return replace(
        _base(project, run, rule, seed),
        model=loads(run.name, rule),
        placement=first,
        cores=CLIENT_CORES if needs_gpu(run.base_entry) else CPU_CORES,
        mem_mb=step_memory_mb(project, run, step, first),
        disk_mb=DISK_MB,
        runtime_min=sum(minutes.values()),
        expected_min=expected_minutes(project, run.name, rule, seed),
        at_once=TRAININGS_AT_ONCE if rule in TRAINS else 1,
    )


def _evaluation(project: Project, run: RecipeRun, step: str) -> PodRequest:
    found = _pod(project, run, EVALUATE, None)
    return replace(found, name=dns_name(f"grace-{run.name}-{step.replace(' ', '-')}"))


def _plain(project: Project, run: RecipeRun, step: str, seed: int | None) -> PodRequest:
    told = steps.STEPS[step]
    return replace(
        _base(project, run, step, seed), mem_mb=told.mem_mb, runtime_min=told.minutes, cores=1
    )


def _base(project: Project, run: RecipeRun, rule: str, seed: int | None) -> PodRequest:
    name = f"{run.name}-{rule}" + ("" if seed is None else f"-{seed}")
    return PodRequest(
        name=dns_name(f"grace-{name}"), run=project.config.results, rule=rule, model=None,
        replication=None, command=list(COMMAND), placement=None, cores=1, mem_mb=0,
        recipe=run.name, training_seed=seed,
    )  # fmt: skip
