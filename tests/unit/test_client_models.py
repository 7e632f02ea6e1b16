"""What Kubernetes 1.20, the newest that could be built, does not know: held to the published API.

podFailurePolicy, DisruptionTarget, backoffLimitPerIndex and ValidatingAdmissionPolicy, as Grace and
the stand-in write them, against the models of Kubernetes's own client.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from client_models import possible_values, wrong
from kube_admission import POLICY, policy
from kube_standin import Cluster as Standin
from manifest_rules import ACTIONS, problems
from waiting import PATIENCE_S, wait_until

from grace.cluster.plan.pods import IGNORE_DISRUPTIONS
from grace.cluster.run.disruptions import NOT_THE_NODE, disruption, ignores_disruptions

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((ROOT / "tests/unit/golden/pods").glob("*-*.yaml"))
SHIPPED = [ROOT / f"workflow/kubernetes/jobs/{name}.yaml" for name in ("controller", "prefetch")]
RULE = "V1PodFailurePolicyRule"


def jobs(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one["kind"] == "Job"]


@pytest.mark.parametrize("path", [*GOLDEN, *SHIPPED], ids=lambda path: path.stem)
def test_jobs_are_those_of_the_published_api(path: Path) -> None:
    found = jobs(path)
    assert found
    for job in found:
        assert [*wrong(job, "V1Job")] == []
        assert ignores_disruptions(job)


def test_each_model_has_an_indexed_job_with_a_limit_for_each_index() -> None:
    for path in GOLDEN:
        (job,) = [one for one in jobs(path) if one["spec"].get("completionMode") == "Indexed"]
        assert job["spec"]["backoffLimitPerIndex"] >= 0
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_the_policy_of_failures_has_values_that_the_reference_lists() -> None:
    assert [*wrong(IGNORE_DISRUPTIONS, RULE)] == []
    assert possible_values(RULE, "action") == set(ACTIONS)
    assert IGNORE_DISRUPTIONS["action"] in ACTIONS


@pytest.mark.parametrize("reason", ["PreemptionByScheduler", "EvictionByEvictionAPI"])
def test_the_stand_ins_disruptions_are_conditions_of_the_published_api(reason: str) -> None:
    (job,) = [job for job in jobs(ROOT / "tests/unit/golden/pods/nrp-pico-cpu.yaml")
              if job["metadata"]["labels"].get("grace/rule") == "inference"
              and "completions" not in job["spec"]]  # fmt: skip
    with Standin(simulate=lambda pod: 60.0) as cluster:
        job["metadata"]["namespace"] = "default"
        cluster.answer("POST", "default", "jobs", None, None, {}, job)
        wait_until(lambda: cluster.names("pods"), PATIENCE_S, "its pod")
        (name,) = cluster.names("pods")
        cluster.disrupt(name, reason, "told so", ends=False)
        (pod,) = copy.deepcopy(cluster.objects("pods"))
    assert (disruption(pod) or {})["reason"] == reason
    assert reason in NOT_THE_NODE
    for one in pod["status"]["conditions"]:
        assert [*wrong(one, "V1PodCondition")] == []


def test_the_policy_of_admission_is_one_of_the_published_api() -> None:
    made, binding = policy("lab")
    assert [*wrong(made, "V1ValidatingAdmissionPolicy")] == []
    assert [*wrong(binding, "V1ValidatingAdmissionPolicyBinding")] == []
    (check,) = made["spec"]["validations"]
    assert f"'{made['metadata']['name']}' with binding" in POLICY
    assert POLICY.endswith(f"denied request: {check['message']}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"onExitCode": 1}, "no field onExitCode"),
        ({"action": None}, "must not be `None`"),
        ({"onPodConditions": {"type": "DisruptionTarget"}}, "is no list"),
        ({"onPodConditions": [{"type": "DisruptionTarget", "status": True}]}, "True is no str"),
        ({"onPodConditions": [{"status": "True"}]}, "must not be `None`"),
    ],
)
def test_the_models_refuse_what_is_no_rule(change: dict[str, Any], words: str) -> None:
    rule = {key: value for key, value in {**IGNORE_DISRUPTIONS, **change}.items() if value}
    assert any(words in line for line in wrong(rule, RULE)), [*wrong(rule, RULE)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"podFailurePolicy": {"rules": [{**IGNORE_DISRUPTIONS, "action": "Ignored"}]}}, "action"),
        ({"podFailurePolicy": {"rules": [{**IGNORE_DISRUPTIONS, "action": "FailIndex"}]}}, "needs"),
        ({"podFailurePolicy": {"rules": [{"action": "Ignore"}]}}, "either"),
        ({"podFailurePolicy": {"rules": [IGNORE_DISRUPTIONS] * 21}}, "more than 20"),
        ({"podReplacementPolicy": "TerminatingOrFailed"}, "podReplacementPolicy"),
    ],
)
def test_the_stand_in_refuses_what_the_reference_forbids(
    change: dict[str, Any], words: str
) -> None:
    (job, *_) = jobs(GOLDEN[0])
    assert problems(job) == []
    job["spec"] |= change
    assert any(words in line for line in problems(job)), problems(job)
