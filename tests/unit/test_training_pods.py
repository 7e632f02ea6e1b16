"""Pods of recipes: one GPU on which a training fits, one server a stage, golden, within policy."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from bundled_studies import ROOT
from manifest_rules import problems

from grace.cluster.plan import pod_plan, policy, policy_report, training_pods
from grace.cluster.plan.indexed import manifest
from grace.cluster.plan.pods import PodRequest, job_manifest
from grace.cluster.run.jobs import TrackedJob
from grace.cluster.run.queue import Order, ready
from grace.errors import ConfigError
from grace.forecast.recipe_forecast import jobs_of, recipe_forecasts
from grace.settings.project import Project

GOLDEN = Path(__file__).parent / "golden" / "training_pods" / "nrp-bootstrap-dpo-a100.yaml"
STEPS = ["training_data", "sample", "select", "sft", "training_pairs", "dpo", "pairs"]


@cache
def read() -> Project:
    """The project is read once; for other tags the copies are placed anew."""
    own = {"models": ["bootstrap.dpo-1", "bootstrap.sft-2"], "studies": ["study1"],
           "replications": 1, "limit": 2, "cluster": "nrp",
           "results": "no-such-results"}  # fmt: skip
    return Project(ROOT, own, {})


@cache
def project(*gpus: str) -> Project:
    found = copy.copy(read())
    found.config = found.config.model_copy(update={"gpus": [*gpus]})
    return found


def of_recipe(found: Project) -> list[PodRequest]:
    return training_pods.training_pods(found)


def one(found: Project, rule: str) -> PodRequest:
    return next(pod for pod in of_recipe(found) if pod.rule == rule)


def test_a_training_has_one_gpu_on_which_it_fits_whatever_its_base_is_asked_on():
    found = project("rtx3090", "l40", "a100")
    # On 24 GiB no row fits, on 45 none in 16 bits; the base is asked on four cards of 24.
    assert one(found, "training_data").placement.tag == "rtx3090"
    assert one(found, "training_data").gpus == 4
    sft = one(found, "sft")
    assert (sft.placement.tag, sft.gpus, sft.placement.tensor_parallel_size) == ("a100", 1, 1)
    assert sft.runtime_min < 24 * 60 or sft.expected_min > 24 * 60


def test_the_pods_are_golden_and_valid():
    found = project("a100")
    written = yaml.safe_dump(
        job_manifest(one(found, "dpo"), found.cluster), sort_keys=False, width=100
    )
    if os.environ.get("GRACE_GOLDEN") == "write":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(written, encoding="utf-8")
    assert written == GOLDEN.read_text(encoding="utf-8")
    kinds = {}
    for pod in of_recipe(found):
        job = job_manifest(pod, found.cluster)
        kubernetes_validate.validate(copy.deepcopy(job), "1.30", strict=True)
        assert problems(job) == []
        kinds[pod.rule, pod.training_seed] = job
    (container,) = kinds["dpo", 1]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/a100"] == "1"
    assert {"HF_HOME", "GRACE_JOURNAL_DIR", "GRACE_GPU_TAG"} <= {
        entry["name"] for entry in container["env"]
    }
    assert "nvidia.com/a100" not in str(kinds["select", None]["spec"]["template"]["spec"])
    # The second seed is wanted up to SFT alone.
    assert sorted(rule for rule, seed in kinds if seed == 2) == ["model_card", "sft"]


def test_rounds_have_pods_of_their_own_one_after_the_other(monkeypatch):
    found = copy.copy(project("a100"))
    run = found.trainings["bootstrap"]
    recipe = run.recipe.model_copy(update={"online_rounds": 2})
    found.trainings = {"bootstrap": replace(run, recipe=recipe)}
    wanted = {"bootstrap.online2-1", "bootstrap.dpo-2"}
    monkeypatch.setattr(Project, "checkpoints_wanted", wanted)
    own = ["training_round", "online_dpo", "online_pairs"]
    rounds = [pod for pod in of_recipe(found) if pod.rule in own]
    assert [(pod.rule, pod.training_seed) for pod in rounds] == [(rule, 1) for rule in own] * 2
    assert ["-1-round-1-" in pod.name for pod in rounds] == [True] * 3 + [False] * 3
    names = [pod.name for pod in of_recipe(found) if pod.rule != "model_card"]
    assert len(set(names)) == len(names)
    by_rule = {pod.rule: pod for pod in rounds}
    pairs, dpo = one(found, "training_pairs"), one(found, "dpo")
    for rule, like in (("training_round", pairs), ("online_dpo", dpo)):
        assert by_rule[rule].expected_min == pytest.approx(like.expected_min)
        assert (by_rule[rule].model, by_rule[rule].gpus) == (like.model, like.gpus)
    assert ("online_dpo", "bootstrap.training") in training_pods.expected(found)
    for pod in rounds:
        kubernetes_validate.validate(job_manifest(pod, found.cluster), "1.30", strict=True)


def test_stages_that_share_a_server_are_one_pod_and_the_policy_counts_their_hours():
    found = project("a100")
    assert [pod.rule for pod in of_recipe(found) if pod.rule in STEPS and pod.training_seed in
            (None, 1)] == ["training_data", "sample", "select", "sft", "training_pairs", "dpo",
                           "pairs"]  # fmt: skip
    assert not policy.broken(policy_report.verdicts(found))
    hours = sum((pod.expected_min or 0) * pod.gpus / 60 for pod in of_recipe(found))
    assert hours > 30
    narrow = found.cluster.policy.model_copy(update={"max_gpu_hours": hours - 1})
    verdicts = policy.check(
        pod_plan.pods(found), found.cluster.model_copy(update={"policy": narrow}), []
    )
    assert "GPU-hours" in {verdict.rule for verdict in policy.broken(verdicts)}
    told = policy_report.text(found)
    assert "training_pairs  bootstrap.base " in told
    assert "dpo             bootstrap.training " in told


def test_only_pods_of_steps_that_are_to_be_done_are_held_against_the_rules():
    found = project("a100")
    jobs = [("candidates", "bootstrap", "1"), ("dpo", "bootstrap", "1"), ("report", None, None)]
    needed = pod_plan.needed(pod_plan.pods(found), jobs)
    assert [(pod.rule, pod.training_seed) for pod in needed] == [
        ("training_pairs", 1), ("dpo", 1), ("report", None)
    ]  # fmt: skip


def test_each_evaluation_has_hours_and_a_pod_on_its_bases_gpus():
    found = project("a100")
    wanted = ["base", "base-few-shot", "sft-2", "dpo-1"]
    jobs = [step for _, step, _ in jobs_of(found) if step.startswith("evaluate")]
    assert jobs == [f"evaluate {one}" for one in wanted]
    (forecast,) = recipe_forecasts(found, jobs_of(found))
    taken = {step.step: step.seconds for step in forecast.steps}
    assert all(taken[job] > 0 for job in jobs)
    pods = [pod for pod in of_recipe(found) if pod.rule == "evaluate"]
    assert [pod.name for pod in pods] == [f"grace-bootstrap-evaluate-{one}" for one in wanted]
    asked = one(found, "training_data")
    assert {(pod.model, pod.placement.tag, pod.gpus) for pod in pods} == {
        (asked.model, asked.placement.tag, asked.gpus)
    }
    assert all(pod.expected_min is not None for pod in pods)
    assert one(found, "compare").gpus == 0


def test_trainings_wait_their_turn_as_models_do():
    found = project("a100")
    waiting = [TrackedJob(None, pod).waiting() for pod in of_recipe(found)]  # type: ignore[arg-type]
    loaded = training_pods.loaded(found)
    assert list(loaded) == ["bootstrap.base", "bootstrap.training"]
    order = Order(list(loaded), {key: most for key, (_, most) in loaded.items()}, 2, True)
    names = {pod.name: pod.rule for pod in of_recipe(found)}
    with_gpus = [names[name] for name in ready([o for o in waiting if o.gpus], [], order)]
    assert with_gpus == ["training_data"]
    trainings = [one for one in waiting if one.gpus and one.model == "bootstrap.training"]
    assert len(ready(trainings, [], order)) == 2  # `peak_gpus`


def test_a_pod_knows_itself_by_its_tag_and_computes_the_same():
    values = {"models": ["bootstrap.dpo-1"], "gpus": ["l40", "a100"], "cluster": "nrp",
              "studies": ["study1"]}  # fmt: skip
    inside = Project(ROOT, values, {"GRACE_GPU_TAG": "a100"})
    assert inside.trainings["bootstrap"].base_entry.gpus == 1
    outside = Project(ROOT, values, {})
    run, other = inside.trainings["bootstrap"], outside.trainings["bootstrap"]
    assert other.base_entry.gpus == 2
    assert inside.training_config(run.base, run.base_entry) == outside.training_config(
        other.base, other.base_entry
    )


def test_an_indexed_job_trains_nothing():
    with pytest.raises(ConfigError, match="is a recipe's checkpoint"):
        manifest(project("a100"), "bootstrap.dpo-1")
