"""A run's Jobs, step by step: adopted, deleted first, not taken up again, tried with more.

Against a namespace in memory; tests/integration/test_kubernetes_faults.py has Snakemake do it.
"""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace

import pytest
from kube_admission import POLICY

from grace.cluster.plan.placement import placement_for
from grace.cluster.plan.pods import PodRequest
from grace.cluster.plan.settings import Cluster
from grace.cluster.run.api import ApiError
from grace.cluster.run.jobs import Jobs
from grace.cluster.run.queue import Order
from grace.cluster.run.tracked import MAKES
from grace.settings.config import ModelEntry

MINE = "file:way"


class Namespace:
    """Jobs and pods as the API shows them. A deleted Job stays until `settle`."""

    def __init__(self):
        self.calls = 0
        self.refuses, self.order = {}, []
        self.held, self.held_pods, self.created = {}, {}, []
        self.events, self.looked_at_events = [], 0

    def jobs(self, selector):
        return list(self.held.values())

    def pods(self, selector):
        return list(self.held_pods.values())

    def failed_creates(self):
        self.looked_at_events += 1
        if "events" in self.refuses:
            raise self.refuses["events"]
        return self.events

    def refuse(self, name, words, at="2026-11-20T10:00:00Z"):
        """A Job's event: its pod was not made."""
        self.events.append({
            "metadata": {}, "involvedObject": {"name": name}, "lastTimestamp": at,
            "message": f"Error creating: {words}",
        })  # fmt: skip

    def add_pod(self, name, phase="Running", reason=""):
        conditions = [{"type": "PodScheduled", "status": "False", "message": reason}]
        self.held_pods[name] = {
            "metadata": {
                "name": f"{name}-abc", "labels": {"job-name": name},
                "creationTimestamp": "2026-11-20T10:00:00Z",
            },
            "status": {"phase": phase, "conditions": conditions if reason else []},
        }  # fmt: skip

    def create_job(self, manifest):
        name = manifest["metadata"]["name"]
        self.calls += 1
        self.order.append(("create", name))
        for key in ("create", f"create {name}"):
            if key in self.refuses:
                raise self.refuses[key]
        if name in self.held:
            raise ApiError("create", 409, "exists")
        self.held[name] = {**manifest, "status": {}}
        self.created.append(name)

    def delete_job(self, name):
        self.order.append(("delete", name))
        if "delete" in self.refuses:
            raise self.refuses["delete"]
        self.held[name]["metadata"]["deletionTimestamp"] = "now"

    def log(self, pod, container, lines):
        if "log" in self.refuses:
            raise self.refuses["log"]
        return "last words\n"

    def add(self, name, makes, labels=()):
        metadata = {"name": name, "annotations": {MAKES: makes}, "labels": dict(labels)}
        self.held[name] = {"metadata": metadata, "status": {}}

    def add_stray(self, name, makes):
        """A pod that runs, of a Job that is gone."""
        metadata = {"name": f"{name}-abc", "annotations": {MAKES: makes}}
        metadata["labels"] = {"job-name": name}
        self.held_pods[name] = {"metadata": metadata, "status": {"phase": "Running"}}

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
    metadata = {"name": request.name, "annotations": annotations}
    return {"metadata": metadata, "mb": request.mem_mb, "spec": {"template": {"spec": {}}}}


@pytest.fixture
def on():
    """A GPU of each kind."""
    entry = ModelEntry(name="a/model", gpus=1)
    return {tag: placement_for(entry, tag) for tag in ("a100", "l40")}


@pytest.fixture
def run(tmp_path, on):
    """A run: its Jobs, the namespace, and what it was told."""
    space, reports = Namespace(), []
    jobs = Jobs(
        api=space, cluster=Cluster(tries=1, more_memory=2),
        order=Order(["first", "second"], {}, None, True),
        placements={"first": list(on.values())}, selector="", logs=tmp_path, omit_cleanup=True,
        logger=logging.getLogger("test"), wake=threading.Event(), over=threading.Event(),
        manifest=manifest,
        succeeded=lambda job: reports.append((job.info, "succeeded")),
        failed=lambda job, reason, log: reports.append((job.info, reason)),
    )  # fmt: skip

    def submit(attempt=1, name="mine", makes=MINE, model=None, placement=None):
        info = SimpleNamespace(external_jobid=name)
        request = PodRequest(
            name=name, run="run", rule="rule", model=model, replication=None, command=["true"],
            placement=placement, cores=1, mem_mb=100, attempt=attempt, annotations={MAKES: makes},
        )  # fmt: skip
        jobs.submit(info, request)
        return info

    return SimpleNamespace(jobs=jobs, space=space, reports=reports, submit=submit)


def test_a_job_is_created_once_and_its_end_reported_once(run):
    info = run.submit()
    run.jobs.reconcile()
    run.jobs.reconcile()
    assert (run.space.created, run.reports) == (["mine"], [])
    run.space.end_pod("mine", 0, "Completed")
    run.jobs.reconcile()
    run.jobs.reconcile()
    assert run.reports == [(info, "succeeded")]


@pytest.mark.parametrize(("code", "report"), [(0, "succeeded"), (3, "exit code 3")])
def test_a_job_that_has_just_ended_is_not_adopted_again(run, code, report):
    first = run.submit()
    run.jobs.reconcile()
    run.space.end_pod("mine", code)
    run.space.settle()
    run.jobs.reconcile()
    assert run.reports == [(first, report)]
    # The pod has gone from the list before the Job knows of its end: it looks as if it went on.
    run.space.held_pods.clear()
    run.submit(attempt=2)
    run.jobs.reconcile()
    assert "deletionTimestamp" in run.space.held["mine"]["metadata"]
    assert run.space.created == ["mine"]
    run.space.settle()
    run.jobs.reconcile()
    assert run.space.created == ["mine", "mine"]


@pytest.mark.parametrize("makes", [MINE, f"other:way {MINE}"])
def test_a_job_of_another_run_that_does_the_same_is_adopted(run, makes):
    run.space.add("theirs", makes)
    info = run.submit()
    run.jobs.reconcile()
    assert info.external_jobid == "theirs"
    assert list(run.jobs.tracked_jobs) == ["theirs"]
    run.space.end_pod("theirs", 0)
    run.jobs.reconcile()
    assert (run.space.created, run.reports) == ([], [(info, "succeeded")])


def test_a_job_that_makes_the_file_in_another_way_goes_first(run):
    run.space.add("theirs", "file:other")
    run.submit()
    run.jobs.reconcile()
    run.jobs.reconcile()  # deleted, but there
    assert run.space.created == []
    run.space.settle()
    run.jobs.reconcile()
    assert run.space.created == ["mine"]


def test_another_attempt_has_the_memory_that_the_last_one_wanted(run):
    run.submit()
    run.jobs.reconcile()
    run.space.end_pod("mine", 137, "OOMKilled")
    run.jobs.reconcile()
    run.submit(attempt=2)
    run.jobs.reconcile()
    run.space.settle()
    run.jobs.reconcile()
    assert run.space.held["mine"]["mb"] > 190


def test_a_job_that_never_goes_is_reported_and_not_doubled(run):
    """As on a node that is silent: its pod may still write."""
    run.jobs.cluster = run.jobs.cluster.model_copy(update={"removal_s": 1e-9})
    run.space.add("theirs", "file:other")
    info = run.submit()
    run.jobs.reconcile()
    assert run.reports == []
    run.jobs.reconcile()
    ((job_info, reason),) = run.reports
    assert job_info is info
    assert "and the pod still write" in reason
    assert "-l job-name=theirs" in reason
    assert run.space.created == []


def test_a_pod_whose_job_is_gone_is_waited_for(run):
    """As after `kubectl delete job`: the Job goes at once, its pod a while later."""
    run.space.add_stray("theirs", MINE)
    run.submit()
    run.jobs.reconcile()
    run.jobs.reconcile()
    assert run.space.created == []
    run.space.held_pods["theirs"]["status"]["phase"] = "Failed"
    run.jobs.reconcile()
    assert run.space.created == ["mine"]


def test_a_job_that_makes_no_file_is_started_again_too(run):
    run.space.add("mine", "")
    info = run.submit(makes="")
    run.jobs.reconcile()
    run.space.settle()
    run.jobs.reconcile()
    assert run.space.created == ["mine"]
    run.space.end_pod("mine", 3)
    run.jobs.reconcile()
    assert run.reports == [(info, "exit code 3")]
    run.submit(attempt=2, makes="")
    run.jobs.reconcile()
    run.space.settle()
    run.jobs.reconcile()
    assert run.space.created == ["mine", "mine"]


def quota(most):
    words = f"exceeded quota: lab, requested: count/jobs.batch=1, used: count/jobs.batch={most}"
    return ApiError("create", 403, f"{words}, limited: count/jobs.batch={most} (HTTP 403)")


def hurry(run, **changes):
    """Patience at its end, and no wait between two calls of one kind."""
    run.jobs.cluster = run.jobs.cluster.model_copy(update=changes)
    run.jobs.refusals.first_s = 0


def test_a_full_quota_is_waited_for_by_all_together(run, on):
    """However long; the whole run asks once, and then no more until its wait is over."""
    hurry(run, patience_s=1e-9, api_patience_s=1e-9)
    run.space.refuses["create"] = quota(5)
    for number in range(5):
        run.submit(name=f"n{number}", makes=f"f{number}:way")
    run.jobs.reconcile()
    run.jobs.refusals.first_s = 1e9
    run.jobs.reconcile()
    asked = run.space.calls
    run.jobs.reconcile()
    assert run.space.calls == asked
    assert (run.space.created, run.reports) == ([], [])
    assert {one.tries for one in run.jobs.tracked_jobs.values()} == {1}


def test_jobs_that_wait_for_a_quota_go_on_when_one_has_gone(run):
    run.submit(name="first", makes="f:way")
    run.jobs.reconcile()
    run.jobs.refusals.first_s = 1e9
    run.space.refuses["create"] = quota(1)
    run.submit()
    run.jobs.reconcile()
    del run.space.refuses["create"], run.space.held["first"]
    run.jobs.reconcile()
    assert run.space.created == ["first", "mine"]


def test_ended_jobs_are_deleted_before_others_are_created(run):
    run.jobs.omit_cleanup = False
    run.submit(name="first", makes="f:way")
    run.jobs.reconcile()
    run.space.end_pod("first", 0)
    run.submit()
    run.jobs.reconcile()
    assert run.space.order[-2:] == [("delete", "first"), ("create", "mine")]


def test_a_quota_that_has_no_room_for_one_job_is_reported(run):
    run.space.refuses["create"] = quota(0)
    info = run.submit()
    run.jobs.reconcile()
    assert run.reports == []
    hurry(run, patience_s=1e-9)
    run.jobs.refusals.forget("mine")
    run.jobs.reconcile()
    run.jobs.reconcile()
    ((job_info, reason),) = run.reports
    assert job_info is info
    assert "exceeded quota" in reason


def test_a_rule_of_the_cluster_is_reported_at_once(run):
    words = 'admission webhook "check" denied the request: no (HTTP 403)'
    run.space.refuses["create"] = ApiError("create", 403, words)
    info = run.submit()
    run.jobs.reconcile()
    assert run.reports == [(info, f"create: {words}")]


@pytest.mark.parametrize(
    ("status", "words"), [(403, 'User "me" cannot create resource "jobs"'), (500, "webhook")]
)
def test_a_job_that_is_refused_waits_alone_until_patience_ends(run, status, words):
    run.space.refuses["create mine"] = ApiError("create", status, words)
    run.jobs.refusals.first_s = 1e9
    info = run.submit()
    run.submit(name="other", makes="other:way")
    run.jobs.reconcile()
    assert run.space.order == [("create", "mine"), ("create", "other")]  # at the same look
    run.jobs.reconcile()
    assert (run.space.created, run.reports) == (["other"], [])
    assert run.space.order.count(("create", "mine")) == 1
    hurry(run, api_patience_s=1e-9)
    run.jobs.refusals.forget("mine")
    run.jobs.reconcile()
    run.jobs.reconcile()
    ((job_info, reason),) = run.reports
    assert job_info is info
    assert words in reason


def test_a_log_that_cannot_be_read_is_asked_for_at_later_looks(run):
    run.jobs.refusals.first_s = 0
    info = run.submit()
    run.jobs.reconcile()
    run.space.end_pod("mine", 3)
    run.space.refuses["log"] = ApiError("log", 500, "the node is silent")
    run.jobs.reconcile()
    assert run.reports == []
    del run.space.refuses["log"]
    run.jobs.reconcile()
    assert run.reports == [(info, "exit code 3")]
    assert "last words" in (run.jobs.logs / "mine.log").read_text(encoding="utf-8")


def test_a_job_that_could_not_be_deleted_is_not_taken_up_for_the_next_gpus(run, on):
    changes = {"patience_s": 1e-9, "tries": 2}
    run.jobs.cluster = run.jobs.cluster.model_copy(update=changes)
    run.submit(model="first", placement=on["a100"])
    run.jobs.reconcile()
    run.space.refuses["delete"] = ApiError("delete", 500, "not now")
    run.jobs.reconcile()
    run.jobs.reconcile()  # no node within the patience
    assert run.jobs.tracked_jobs["mine"].request.placement.tag == "l40"
    run.jobs.reconcile()
    assert not run.jobs.tracked_jobs["mine"].created
    # At the end of the run it would be deleted, though Jobs that ended may stay.
    assert run.jobs._is_leftover(run.space.held["mine"])
    del run.space.refuses["delete"]
    run.jobs.refusals.forget(("delete", "mine"))
    run.jobs.reconcile()
    run.space.settle()
    run.jobs.reconcile()
    assert run.space.created == ["mine", "mine"]


def disrupt(run, name="mine", pod="one"):
    """Its node evicted its pod."""
    run.space.end_pod(name, 137)
    found = run.space.held_pods[name]
    found["metadata"]["name"], found["spec"] = pod, {"nodeName": f"node-of-{pod}"}
    why = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    found["status"]["conditions"] = [why]


def again(run):
    """The next try, once what was there has gone."""
    run.jobs.reconcile()
    run.space.settle()
    run.jobs.refusals.forget(("disrupted", "mine"))
    run.jobs.reconcile()


def test_disruptions_have_a_budget_of_their_own(run):
    run.jobs.cluster = run.jobs.cluster.model_copy(update={"disruptions": 2})
    info = run.submit()
    run.jobs.reconcile()
    for pod in ("one", "two"):
        disrupt(run, pod=pod)
        run.jobs.reconcile()
        again(run)
    assert (run.space.created, run.reports) == (["mine"] * 3, [])
    tracked = run.jobs.tracked_jobs["mine"]
    assert (tracked.tries, tracked.avoid) == (1, ("node-of-one", "node-of-two"))
    disrupt(run, pod="three")
    run.jobs.reconcile()
    ((job_info, reason),) = run.reports
    assert job_info is info
    assert "ended its pods 3 times, at last: TerminationByKubelet" in reason


def test_the_next_pod_waits_for_a_while_after_a_disruption(run):
    run.jobs.refusals.first_s = 1e9
    run.submit()
    run.jobs.reconcile()
    disrupt(run)
    run.jobs.reconcile()
    run.jobs.reconcile()
    run.space.settle()
    run.jobs.reconcile()
    assert run.space.created == ["mine"]
    run.jobs.refusals.forget(("disrupted", "mine"))
    run.jobs.reconcile()
    assert run.space.created == ["mine", "mine"]


def test_a_node_is_avoided_only_while_another_takes_the_pod(run):
    run.jobs.cluster = run.jobs.cluster.model_copy(update={"grace_s": 1e-9})
    run.submit()
    run.jobs.reconcile()
    disrupt(run)
    run.jobs.reconcile()
    again(run)
    assert run.jobs.tracked_jobs["mine"].avoid == ("node-of-one",)
    lonely = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    run.space.held_pods["mine"] = {
        "metadata": {"name": "two", "labels": {"job-name": "mine"}},
        "status": {"phase": "Pending", "conditions": [lonely]},
    }
    run.jobs.reconcile()
    run.jobs.reconcile()
    assert run.jobs.tracked_jobs["mine"].avoid == ()
    again(run)
    assert run.space.created == ["mine"] * 3


def test_an_adopted_job_is_on_the_gpus_that_it_has(run, on):
    run.space.add("theirs", MINE, {"grace/gpu": "l40"})
    run.submit(model="first", placement=on["a100"])
    run.jobs.reconcile()
    assert run.jobs.tracked_jobs["theirs"].request.placement.tag == "l40"


NOW = {"patience_s": 1e-9, "grace_s": 1e-9, "poll_s": 1e-9}
FINAL = 'pods "mine-abc" is forbidden: maximum memory usage per Container is 64Mi'


def at_once(run, **changes):
    run.jobs.cluster = run.jobs.cluster.model_copy(update=changes)
    run.jobs._pod_refusals.every_s = 0


@pytest.mark.parametrize(
    "words",
    [
        FINAL,
        'admission webhook "lab" denied the request: name your team',
        'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true',
        'pods "x" is forbidden: no PriorityClass with name opportunistic was found',
        f'pods "x" {POLICY}',
        "pods \"x\" is forbidden: ValidatingAdmissionPolicy 'lab' with binding 'lab' denied"
        " request: set a timeout",
    ],
)
def test_what_no_waiting_changes_ends_early_in_the_clusters_words(run, words, caplog):
    at_once(run, grace_s=1e-9)  # its patience is 900 s
    info = run.submit()
    run.space.refuse("mine", words)
    run.jobs.reconcile()
    with caplog.at_level("INFO"):
        run.jobs.reconcile()
    assert f"mine waits: {words}" in caplog.text  # told at the first look
    assert run.reports == []
    run.jobs.reconcile()
    ((job_info, reason),) = run.reports
    assert job_info is info
    assert words in reason
    assert "quota" not in reason


@pytest.mark.parametrize(
    "words",
    [
        'pods "x" is forbidden: exceeded quota: lab, requested: pods=1, used: pods=9',
        'Internal error occurred: failed calling webhook "lab": an error on the server',
        'pods "x" is forbidden: status unknown for quota: lab',
        'pods "x" is forbidden: not yet ready to handle request',
    ],
)
def test_what_may_change_by_itself_is_waited_for(run, words):
    at_once(run, grace_s=1e-9)
    run.submit()
    run.space.refuse("mine", words)
    for _ in range(4):
        run.jobs.reconcile()
    assert run.reports == []
    at_once(run, patience_s=1e-9)
    run.jobs.reconcile()
    ((_, reason),) = run.reports
    assert words in reason


def test_a_deleted_pod_is_not_told_as_a_quota(run):
    """Between the pod's end and the Job's failure, or the next pod, the list is empty."""
    at_once(run, **NOW)
    run.submit()
    run.jobs.reconcile()
    run.space.add_pod("mine")
    run.jobs.reconcile()
    run.space.held_pods.clear()
    run.space.refuse("mine", FINAL, at="2026-11-20T09:59:00Z")  # before its pod was made after all
    run.jobs.reconcile()
    run.jobs.reconcile()
    ((_, reason),) = run.reports
    assert "its pod was deleted, or its node went away" in reason
    assert "quota" not in reason


def test_the_event_of_another_job_of_that_name_says_nothing(run):
    at_once(run, grace_s=1e-9)
    run.space.refuse("mine", FINAL)
    run.space.events[0]["involvedObject"]["uid"] = "of the Job before it"
    run.submit()
    run.jobs.reconcile()
    run.space.held["mine"]["metadata"]["uid"] = "its own"
    for _ in range(3):
        run.jobs.reconcile()
    assert run.reports == []


def test_events_are_read_once_for_many_jobs_and_only_where_one_has_no_pod(run):
    for number in range(5):
        run.submit(name=f"n{number}", makes=f"f{number}:way")
    run.jobs.reconcile()
    for number in range(5):
        run.space.add_pod(f"n{number}")
    run.jobs.reconcile()
    assert run.space.looked_at_events == 0
    run.space.held_pods.clear()
    run.jobs.reconcile()
    run.jobs.reconcile()
    assert run.space.looked_at_events == 1


def test_a_role_without_the_right_to_events_is_named_once_and_the_run_goes_on(run, caplog):
    at_once(run)
    run.space.refuses["events"] = ApiError("list events", 403, "forbidden")
    run.submit()
    for _ in range(2):
        run.jobs.reconcile()
    assert "right to list events" not in caplog.text  # one 403 may pass
    for _ in range(3):
        run.jobs.reconcile()
    assert caplog.text.count("gives the right to list events") == 1
    assert run.reports == []


@pytest.mark.parametrize(
    ("tag", "words", "waits"),
    [
        ("a100", "0/1 nodes: 1 Insufficient nvidia.com/a100.", True),
        ("l40", "0/1 nodes: 1 Insufficient nvidia.com/l40.", False),  # the run has none of these
        ("a100", "0/1 nodes: 1 node(s) had untolerated taint(s).", False),
    ],
)
def test_a_pod_behind_the_runs_own_is_not_unschedulable(run, on, tag, words, waits):
    gpus = {
        name: {"resource": f"nvidia.com/{name}", "memory_gib": 80, "compute_capability": 8}
        for name in ("a100", "l40")
    }
    cluster = Cluster.model_validate({"gpus": gpus, "patience_s": 1e-9, "tries": 1})
    run.jobs.cluster = cluster
    run.jobs.order = Order(["first"], {"first": 2}, None, True)
    run.jobs.placements = {"first": [on[tag]]}
    run.submit(name="before", makes="other:way", model="first", placement=on["a100"])
    run.submit(name="behind", model="first", placement=on[tag])
    run.jobs.reconcile()
    run.space.add_pod("before")
    run.space.add_pod("behind", "Pending", words)
    for _ in range(4):
        run.jobs.reconcile()
    assert bool(run.reports) is not waits
    run.space.end_pod("before", 0)
    for _ in range(3):  # what it waited for is free, and it does not get it
        run.jobs.reconcile()
    assert len(run.reports) == 2


def test_a_job_whose_deadline_ended_while_it_waited_did_not_run_too_long(run):
    at_once(run, tries=2)
    run.submit()
    run.jobs.reconcile()
    run.space.add_pod("mine", "Pending", "1 Insufficient cpu")
    run.jobs.reconcile()
    failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "long"}
    run.space.held["mine"]["status"]["conditions"] = [failed]
    run.space.held_pods.clear()
    run.jobs.reconcile()
    assert run.reports == []
    assert run.jobs.tracked_jobs["mine"].tries == 2


def test_a_failed_model_has_its_next_attempt_before_the_model_after_it(run, on):
    run.submit(model="first", placement=on["a100"])
    run.jobs.reconcile()
    run.submit(name="later", makes="other:way", model="second", placement=on["a100"])
    run.jobs.reconcile()
    run.space.end_pod("mine", 3)
    run.jobs.reconcile()
    assert run.space.created == ["mine"]
    run.submit(model="first", placement=on["a100"], attempt=2)
    run.jobs.reconcile()
    run.space.settle()
    run.jobs.reconcile()
    assert run.space.created == ["mine", "mine"]


def test_jobs_may_be_wanted_while_another_thread_looks(run):
    """A list of Jobs made in a loop would see it change."""
    over = threading.Event()

    def submit_many():
        number = 0
        while not over.is_set():
            run.submit(name=f"n{number}", makes=f"f{number}:way")
            number = (number + 1) % 400
            run.jobs.tracked_jobs.pop(f"n{number}", None)

    other = threading.Thread(target=submit_many)
    other.start()
    try:
        for _ in range(300):
            run.jobs._create([], 0)
    finally:
        over.set()
        other.join()
