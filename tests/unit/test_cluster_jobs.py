"""A run's Jobs, a look at a time: adopted, deleted first, not taken up again, tried with more.

Against a namespace in memory; tests/integration/test_kubernetes_faults.py has Snakemake do it.
"""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest

from grace.cluster.api import ApiError
from grace.cluster.jobs import MAKES, Jobs
from grace.cluster.pods import PodRequest
from grace.cluster.queue import Order
from grace.cluster.settings import Cluster

MINE = "file:way"


class Namespace:
    """Jobs and pods as the API shows them. A deleted Job stays until `settle`."""

    def __init__(self):
        self.calls = 0
        self.held, self.held_pods, self.created = {}, {}, []

    def jobs(self, selector):
        return list(self.held.values())

    def pods(self, selector):
        return list(self.held_pods.values())

    def create_job(self, manifest):
        name = manifest["metadata"]["name"]
        if name in self.held:
            raise ApiError("create", 409, "exists")
        self.held[name] = {**manifest, "status": {}}
        self.created.append(name)

    def delete_job(self, name):
        self.held[name]["metadata"]["deletionTimestamp"] = "now"

    def log(self, pod, container, lines):
        return "last words\n"

    def add(self, name, makes):
        metadata = {"name": name, "annotations": {MAKES: makes}}
        self.held[name] = {"metadata": metadata, "status": {}}

    def end_pod(self, name, code, reason="Error"):
        """Its container ended; the Job does not know yet."""
        ended = {"name": "snakemake", "state": {"terminated": {"exitCode": code, "reason": reason}}}
        self.held_pods[name] = {
            "metadata": {"name": f"{name}-abc", "labels": {"job-name": name}},
            "status": {"phase": "Failed" if code else "Succeeded", "containerStatuses": [ended]},
        }

    def settle(self):
        """What was deleted is gone."""
        gone = [name for name, job in self.held.items() if "deletionTimestamp" in job["metadata"]]
        for name in gone:
            del self.held[name]
            self.held_pods.pop(name, None)


def manifest(request):
    annotations = dict(request.annotations)
    return {"metadata": {"name": request.name, "annotations": annotations}, "mb": request.mem_mb}


@pytest.fixture
def run(tmp_path):
    """A run: its Jobs, the namespace, and what it was told."""
    space, told = Namespace(), []
    jobs = Jobs(
        api=space, cluster=Cluster(tries=1, more_memory=2), order=Order([], {}, None, True),
        placements={}, selector="", logs=tmp_path, omit_cleanup=True,
        logger=logging.getLogger("test"), wake=threading.Event(), over=threading.Event(),
        manifest=manifest,
        succeeded=lambda task: told.append((task.info, "succeeded")),
        failed=lambda task, reason, log: told.append((task.info, reason)),
    )  # fmt: skip

    def want(attempt=1):
        info = SimpleNamespace(external_jobid="mine")
        request = PodRequest(
            name="mine", run="run", rule="rule", model=None, replication=None, command=["true"],
            placement=None, cores=1, mem_mb=100, attempt=attempt, annotations={MAKES: MINE},
        )  # fmt: skip
        jobs.want(info, request)
        return info

    return SimpleNamespace(jobs=jobs, space=space, told=told, want=want)


def test_a_job_is_created_once_and_its_end_told_once(run):
    info = run.want()
    run.jobs.look()
    run.jobs.look()
    assert (run.space.created, run.told) == (["mine"], [])
    run.space.end_pod("mine", 0, "Completed")
    run.jobs.look()
    run.jobs.look()
    assert run.told == [(info, "succeeded")]


@pytest.mark.parametrize(("code", "told"), [(0, "succeeded"), (3, "exit code 3")])
def test_a_job_that_has_just_ended_is_not_adopted_again(run, code, told):
    first = run.want()
    run.jobs.look()
    run.space.end_pod("mine", code)
    run.space.settle()
    run.jobs.look()
    assert run.told == [(first, told)]
    # The pod has gone from the list before the Job knows of its end: it looks as if it went on.
    run.space.held_pods.clear()
    run.want(attempt=2)
    run.jobs.look()
    assert "deletionTimestamp" in run.space.held["mine"]["metadata"]
    assert run.space.created == ["mine"]
    run.space.settle()
    run.jobs.look()
    assert run.space.created == ["mine", "mine"]


@pytest.mark.parametrize("makes", [MINE, f"other:way {MINE}"])
def test_a_job_of_another_run_that_does_the_same_is_adopted(run, makes):
    run.space.add("theirs", makes)
    info = run.want()
    run.jobs.look()
    assert info.external_jobid == "theirs"
    assert list(run.jobs.tasks) == ["theirs"]
    run.space.end_pod("theirs", 0)
    run.jobs.look()
    assert (run.space.created, run.told) == ([], [(info, "succeeded")])


def test_a_job_that_makes_the_file_in_another_way_goes_first(run):
    run.space.add("theirs", "file:other")
    run.want()
    run.jobs.look()
    run.jobs.look()  # deleted, but there
    assert run.space.created == []
    run.space.settle()
    run.jobs.look()
    assert run.space.created == ["mine"]


def test_another_attempt_has_the_memory_that_the_last_one_wanted(run):
    run.want()
    run.jobs.look()
    run.space.end_pod("mine", 137, "OOMKilled")
    run.jobs.look()
    run.want(attempt=2)
    run.jobs.look()
    run.space.settle()
    run.jobs.look()
    assert run.space.held["mine"]["mb"] > 190
