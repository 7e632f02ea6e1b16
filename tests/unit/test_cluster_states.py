"""What has become of a Job, in the cluster's own words, and what follows from it."""

from __future__ import annotations

import pytest

from grace.cluster.plan.settings import Cluster
from grace.cluster.run.states import JobState, active, job_state, lacks, outcome

CLUSTER = Cluster(patience_s=100, start_patience_s=50, grace_s=10)


def job(*conditions, deleted=False):
    metadata = {"name": "one", **({"deletionTimestamp": "2026-11-20T10:00:00Z"} if deleted else {})}
    return {"metadata": metadata, "status": {"conditions": list(conditions)}}


def condition(kind, reason="", message="", status="True"):
    return {"type": kind, "status": status, "reason": reason, "message": message}


def pod(phase="Running", name="one-abc", **status):
    return {
        "metadata": {"name": name, "creationTimestamp": f"2026-11-20T10:00:0{len(name)}Z"},
        "status": {"phase": phase, **status},
    }


def ended(code, reason="Error", message="", phase="Failed", name="one-abc", **status):
    terminated = {"exitCode": code, "reason": reason, "message": message}
    containers = [{"name": "snakemake", "state": {"terminated": terminated}}]
    return pod(phase, name, containerStatuses=containers, **status)


def waiting(reason, message=""):
    containers = [
        {"name": "snakemake", "state": {"waiting": {"reason": reason, "message": message}}}
    ]
    scheduled = condition("PodScheduled")
    return pod("Pending", containerStatuses=containers, conditions=[scheduled])


def unscheduled(message):
    conditions = [condition("PodScheduled", "Unschedulable", message, status="False")]
    return pod("Pending", conditions=conditions)


FAILED = condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")


def after(seconds, the_job, *pods):
    return outcome(job_state(the_job, pods, "snakemake"), seconds, CLUSTER)


def test_success():
    assert after(0, job(condition("Complete")), ended(0, "Completed", phase="Succeeded")).kind == (
        "succeeded"
    )


def test_success_although_an_injected_container_goes_on():
    assert after(0, job(), ended(0, "Completed", phase="Running")).kind == "succeeded"


def test_what_ran_failed():
    found = after(0, job(FAILED), ended(3))
    assert (found.kind, found.reason, found.again, found.oom) == (
        "failed", "exit code 3", False, False,
    )  # fmt: skip


@pytest.mark.parametrize("code", [1, 137, 143])
@pytest.mark.parametrize("finished", [None, "2026-11-20T10:00:00Z", "2026-11-20T10:00:29Z"])
def test_what_ends_because_its_pod_is_deleted_is_lost(code, finished):
    deleted = ended(code)
    deleted["metadata"] |= {
        "deletionTimestamp": "2026-11-20T10:00:30Z",
        "deletionGracePeriodSeconds": 30,
    }
    (container,) = deleted["status"]["containerStatuses"]
    container["state"]["terminated"]["finishedAt"] = finished
    found = after(0, job(), deleted)
    assert (found.kind, found.again) == ("failed", True)
    assert found.reason == f"its pod was deleted (exit code {code})"


def test_what_failed_before_its_pod_is_deleted_failed():
    failed = ended(3)
    failed["metadata"] |= {
        "deletionTimestamp": "2026-11-20T10:00:30Z",
        "deletionGracePeriodSeconds": 30,
    }
    (container,) = failed["status"]["containerStatuses"]
    container["state"]["terminated"]["finishedAt"] = "2026-11-20T09:59:59Z"
    assert not after(0, job(FAILED), failed).again


def test_out_of_memory():
    found = after(0, job(FAILED), ended(137, "OOMKilled"))
    assert found.kind == "failed"
    assert found.oom
    assert found.again
    assert "OOMKilled" in found.reason


def test_a_failed_container_counts_before_its_job_does():
    assert after(0, job(), ended(3)).kind == "failed"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ({"reason": "Evicted", "message": "The node was low on resource: memory."}, "low on"),
        (
            {"conditions": [condition("DisruptionTarget", "PreemptionByScheduler", "preempting")]},
            "PreemptionByScheduler: preempting",
        ),
    ],
)
def test_a_pod_that_the_cluster_ended_may_be_tried_again(status, words):
    one = ended(137)
    one["status"].update(status)
    found = after(0, job(FAILED), one)
    assert found.kind == "failed"
    assert found.again
    assert words in found.reason


def test_evicted_without_a_container():
    found = after(0, job(FAILED), pod("Failed", reason="Evicted", message="no memory left"))
    assert (found.again, found.reason) == (True, "Evicted: no memory left")


def test_a_deleted_pod():
    found = after(0, job(FAILED))
    assert found.again
    assert "its pod was deleted" in found.reason


@pytest.mark.parametrize(
    ("the_job", "pods"),
    [
        (job(condition("Failed", "DeadlineExceeded", "Job was active longer")), [ended(137)]),
        (job(FAILED), [ended(137, reason="Error", phase="Failed")]),
    ],
)
def test_too_long(the_job, pods):
    pods[0]["status"]["reason"] = "DeadlineExceeded"
    found = after(0, the_job, *pods)
    assert found.kind == "failed"
    assert not found.again
    assert "runtime" in found.reason


def test_a_deleted_job_counts_after_the_grace():
    assert after(9, None).kind == "active"
    found = after(10, None)
    assert (found.kind, found.again) == ("failed", True)
    assert "deleted" in found.reason
    assert after(10, job(deleted=True), pod()).kind == "failed"


def test_unschedulable_is_active_until_patience_ends_and_may_then_move():
    lonely = unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/a100.")
    assert after(99, job(), lonely).kind == "active"
    found = after(100, job(), lonely)
    assert (found.kind, found.move) == ("failed", True)
    assert "3 Insufficient nvidia.com/a100" in found.reason


def test_a_job_without_a_pod_is_waited_for_and_told_in_the_clusters_words():
    assert after(99, job()).kind == "active"
    found = after(100, job())
    assert (found.kind, found.move) == ("failed", True)
    assert "has the namespace any quota left?" in found.reason
    told = outcome(JobState("podless", "exceeded quota: lab"), 100, CLUSTER)
    assert told.reason == "no pod was made for 100 s: exceeded quota: lab"


def test_what_the_cluster_does_not_make_is_not_waited_for_with_patience():
    refused = JobState("refused", "is forbidden: maximum cpu")
    assert outcome(refused, 9, CLUSTER).kind == "active"
    found = outcome(refused, 10, CLUSTER)
    assert (found.kind, found.again, found.move) == ("failed", False, True)
    assert found.reason.endswith("does not change by itself: is forbidden: maximum cpu")


@pytest.mark.parametrize(
    ("words", "resource", "expected"),
    [
        ("0/2 nodes: 2 Insufficient nvidia.com/gpu, 1 Insufficient cpu.", "nvidia.com/gpu", True),
        ("0/2 nodes: 2 Insufficient nvidia.com/gpu.", "cpu", False),
        ("2 Insufficient nvidia.com/a100.", "nvidia.com/a10", False),
        (
            "exceeded quota: q, requested: requests.nvidia.com/gpu=1, used: x",
            "nvidia.com/gpu",
            True,
        ),
        ("exceeded quota: q, requested: pods=1, used: cpu=2", "cpu", False),
        ("2 node(s) didn't match Pod's node affinity/selector.", "nvidia.com/gpu", False),
    ],
)
def test_what_there_is_too_little_of(words, resource, expected):
    assert lacks(words, resource) is expected


def test_an_image_that_does_not_come():
    missing = waiting("ErrImagePull", "grace:old: not found")
    assert after(49, job(), missing).kind == "active"
    found = after(50, job(), missing)
    assert (found.kind, found.again, found.move) == ("failed", False, False)
    assert "ErrImagePull: grace:old: not found" in found.reason


def test_a_sandbox_that_does_not_start_may_be_tried_on_another_node():
    assert after(50, job(), waiting("ContainerCreating")).again


def test_two_pods_of_one_job():
    both = [ended(137, name="one-a", reason="Error"), pod("Running", "one-bcd")]
    assert after(0, job(), *both).kind == "active"
    assert after(0, job(), *reversed(both)).kind == "active"
    both[1] = ended(0, "Completed", phase="Succeeded", name="one-bcd")
    assert after(0, job(), *both).kind == "succeeded"


def test_a_silent_node_is_no_failure():
    assert after(1000, job(), pod("Unknown")).kind == "active"


def test_active():
    assert active(job())
    assert not active(job(FAILED))
    assert not active(job(condition("Complete")))
    assert not active(job(deleted=True))
