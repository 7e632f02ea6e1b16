"""What goes wrong on a cluster: told in its words, tried again where that helps, nothing left."""

from __future__ import annotations

import re
import signal
import time
from types import SimpleNamespace

import pytest
from kube_admission import LIMIT_RANGE, WEBHOOK, WEBHOOK_DOWN
from kube_project import KubeProject
from kube_standin import Cluster, calls_per_second
from waiting import PATIENCE_S, wait_until


@pytest.fixture
def toy(tmp_path):
    with Cluster(gpus={"nvidia.com/gpu": 4}) as cluster:
        yield KubeProject.toy(cluster, tmp_path)


def running(toy, rule, number=1):
    """Whether so many pods of a rule run."""
    found = [pod for pod in toy.cluster.pods_of(rule=rule) if pod["status"]["phase"] == "Running"]
    return len(found) >= number


def pods_run(toy, name):
    """How often a pod of this file ran."""
    return [run for run in toy.cluster.runs if name in run.labels["grace/rule"]]


def words(text):
    return " ".join(text.split())


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """One run in which each pod meets another fault."""
    with Cluster(gpus={"nvidia.com/gpu": 4}) as cluster:
        toy = KubeProject.toy(cluster, tmp_path_factory.mktemp("toy"), tries=2)
        cluster.needs_mib = lambda labels: 250 if labels["grace/rule"] == "ok" else 0
        run = toy.want(
            "ok-oom", "fails-plain", "waits-pod", "gpu-first-0", arguments=("--keep-going",)
        )
        wait_until(lambda: running(toy, "waits"), PATIENCE_S, "the pod that waits")
        first = toy.cluster.pods_of(rule="waits")[0]["metadata"]["name"]
        cluster.remove("pods", first)
        wait_until(lambda: len(pods_run(toy, "waits")) == 2, PATIENCE_S, "its second try")
        cluster.remove("jobs", cluster.pods_of(rule="waits")[0]["metadata"]["labels"]["job-name"])
        wait_until(
            lambda: "waits" not in str(cluster.names("jobs")), PATIENCE_S, "the Job to be gone"
        )
        status = run.wait()
        yield SimpleNamespace(toy=toy, status=status, output=run.output(), cluster=cluster)


def test_a_failed_rule_is_reported_and_the_others_go_on(broken):
    assert broken.status == 1
    assert broken.toy.made() >= {"ok-oom", "gpu-first-0"}
    assert "(fails) failed: exit code 1" in broken.output
    assert "these are its last words" in broken.output
    assert len(pods_run(broken.toy, "fails")) == 1


def test_oom_killed_gets_more_memory(broken):
    assert "OOMKilled: it needs more memory. Started again, try 2 of 2" in broken.output
    first, second = pods_run(broken.toy, "ok")
    assert (first.exit_code, second.exit_code) == (137, 0)


def test_a_deleted_pod_is_made_anew_and_a_deleted_job_reported(broken):
    assert "its pod was deleted" in broken.output
    assert "failed: the Job was deleted, but not by this run" in broken.output
    assert len(pods_run(broken.toy, "waits")) == 2


def test_an_unschedulable_pod_moves_to_the_next_gpus(broken):
    assert "1 Insufficient nvidia.com/a100" in broken.output
    assert "1 × l40" in broken.output
    told = re.findall(r"Phase of grace-gpu-first-\S+: (.*?) since", broken.output)
    assert told[0] == "waiting for a node"
    assert told[-1] == "preparing"
    assert "waits: Unschedulable: 0/1 nodes are available" in broken.output
    assert (broken.toy.folder / "out/gpu-first-0").read_text() == "on l40\n"


def test_nothing_is_left_after_faults(broken):
    assert broken.toy.leftovers() == []
    assert broken.cluster.overlaps() == []


def test_retries_of_the_command_line(toy):
    run = toy.want("repairs-1", arguments=("--retries", "1"))
    assert run.wait() == 0, run.output()
    assert len(pods_run(toy, "repairs")) == 2
    assert toy.leftovers() == []


def test_an_image_that_cannot_be_pulled(toy):
    toy.cluster.images_missing.add("grace:test")
    run = toy.want("ok-1")
    assert run.wait() == 1
    assert "the pod did not start" in run.output()
    assert "ErrImagePull: grace:test: not found" in run.output()
    assert toy.leftovers() == []


def test_pods_that_admission_refuses_are_told_in_its_words_and_not_waited_for(tmp_path):
    """Their patience is an hour; what a webhook that is down refuses is made when it is back."""
    with Cluster() as cluster:
        toy = KubeProject.toy(cluster, tmp_path, patience_s=3600, grace_s=1)
        down = True

        def refuses(template):
            rule = template["metadata"]["labels"]["grace/rule"]
            return {"fails": LIMIT_RANGE, "waits": WEBHOOK, "ok": WEBHOOK_DOWN if down else None}[
                rule
            ]

        cluster.admission.refuses = refuses
        run = toy.want("fails-1", "waits-1", "ok-1", arguments=("--keep-going",))
        wait_until(lambda: "waits) failed" in run.output(), PATIENCE_S, "the webhook's refusal")
        wait_until(lambda: "failed calling webhook" in run.output(), PATIENCE_S, "its words")
        down = False
        assert run.wait() == 1
        output = words(run.output())
        assert "maximum memory usage per Container is 64Mi" in output
        assert 'admission webhook "lab.example.org" denied the request: name your team' in output
        assert "quota" not in output
        assert toy.made() == {"ok-1"}
        assert toy.leftovers() == []


def test_unschedulable_everywhere_is_reported(toy):
    run = toy.want("gpu-first-0", tags="[a100]")
    assert run.wait() == 1
    assert "no node took the pod" in run.output()
    assert toy.leftovers() == []


def test_a_log_that_may_not_be_read(toy):
    toy.cluster.fails(403, path="/log")
    run = toy.want("fails-1")
    assert run.wait() == 1
    assert "read the log of the pod" in run.output()
    assert "failed: exit code 1" in run.output()
    assert toy.leftovers() == []


def test_two_pods_of_one_job(toy):
    toy.cluster.pods_per_job = 2
    run = toy.want("ok-1")
    assert run.wait() == 0, run.output()
    assert toy.leftovers() == []


def test_the_api_has_every_fault_in_one_run(toy):
    cluster = toy.cluster
    run = toy.want("waits-1")
    wait_until(lambda: running(toy, "waits"), PATIENCE_S, "its pod")

    def calls():
        return len(cluster.calls)

    for fault in ({"status": 500}, {"status": 429, "headers": {"Retry-After": "1"}}):
        cluster.fails(**fault, times=4)
        before = calls()
        wait_until(lambda: calls() > before + 6, PATIENCE_S, f"calls after {fault}")  # noqa: B023
    cluster.fails(200, times=1, hang_s=4)
    before = calls()
    wait_until(lambda: calls() > before + 2, PATIENCE_S, "calls after one that hangs")
    cluster.token = "renewed"
    wait_until(lambda: cluster.calls[-1].status == 401, PATIENCE_S, "a refused call")
    cluster.kubeconfig(toy.kubeconfig)
    wait_until(lambda: cluster.calls[-1].status == 200, PATIENCE_S, "a call with the new token")
    cluster.fails(0)
    before = calls()
    wait_until(lambda: calls() > before + 12, PATIENCE_S, "all tries of four calls in vain")
    (toy.folder / "go").touch()
    wait_until(lambda: not running(toy, "waits"), PATIENCE_S, "the pod's end while no one looks")
    cluster.works()
    assert run.wait() == 0, run.output()
    assert toy.made() == {"waits-1"}
    assert len(pods_run(toy, "waits")) == 1
    assert toy.leftovers() == []
    assert calls_per_second(cluster.calls) < 5


def test_an_api_that_stays_away_ends_the_run(tmp_path):
    with Cluster() as cluster:
        toy = KubeProject.toy(cluster, tmp_path, api_patience_s=1)
        run = toy.want("waits-1")
        wait_until(lambda: running(toy, "waits"), PATIENCE_S, "its pod")
        cluster.fails(0)
        # It is back when the run ends, which leaves its pods alone as it has said.
        wait_until(lambda: "The run ends here" in words(run.output()), PATIENCE_S, "its last words")
        cluster.works()
        assert run.wait() == 1
        assert "the same command again takes them up" in words(run.output())
        assert running(toy, "waits")
        again = toy.want("waits-1")
        wait_until(lambda: "adopted" in again.output(), PATIENCE_S, "the adoption")
        (toy.folder / "go").touch()
        assert again.wait() == 0, again.output()
        assert len(pods_run(toy, "waits")) == 1
        assert cluster.overlaps() == []
        assert toy.leftovers() == []


def test_restarts_of_the_api_end_no_run_and_no_pod(tmp_path):
    """At any moment: while Jobs are made, run, and are deleted. Many: tests/long."""
    with Cluster(gpus={"nvidia.com/gpu": 4}) as cluster:
        toy = KubeProject.toy(cluster, tmp_path, tries=1)
        toy.environment["TOY_SECRET"] = "a-canary"
        cluster.faults.restart()
        run = toy.want("waits-0", "waits-1")
        for number in range(2):
            wait_until(lambda n=number: running(toy, "waits", n), PATIENCE_S, "pods")
            before = len(cluster.calls)
            cluster.faults.restart()
            wait_until(
                lambda before=before: any(call.status == 403 for call in cluster.calls[before:]),
                PATIENCE_S, "a refused call",
            )  # fmt: skip
        wait_until(lambda: running(toy, "waits", 2), PATIENCE_S, "all pods")
        (toy.folder / "go").touch()
        cluster.faults.restart()
        assert run.wait() == 0, run.output()
        assert len(cluster.runs) == 2
        assert {one.exit_code for one in cluster.runs} == {0}
        assert toy.leftovers() == []


def test_a_run_that_gives_up_on_rights_leaves_its_pods(tmp_path):
    """As when its Role was taken away: refused with 403 for longer than its patience."""
    with Cluster() as cluster:
        toy = KubeProject.toy(cluster, tmp_path, api_patience_s=1)
        run = toy.want("waits-1")
        wait_until(lambda: running(toy, "waits"), PATIENCE_S, "its pod")
        cluster.faults.restart(away_s=0, forbids=1_000_000)
        wait_until(lambda: "The run ends here" in words(run.output()), PATIENCE_S, "its last words")
        assert "cannot list resource" in words(run.output())
        cluster.faults.restart(away_s=0, forbids=0)
        assert run.wait() == 1
        assert running(toy, "waits")
        assert [call for call in cluster.calls if call.method == "DELETE"] == []


def test_a_quota_of_fewer_jobs_than_wait(tmp_path):
    """Ended Jobs count until they are deleted."""
    with Cluster() as cluster:
        toy = KubeProject.toy(cluster, tmp_path, tries=1, patience_s=0.5)
        cluster.faults.quotas["jobs"] = 2
        names = [f"ok-{number}" for number in range(4)]
        run = toy.want(*names)
        assert run.wait() == 0, run.output()
        assert toy.made() == set(names)
        assert len(cluster.runs) == len(names)
        assert toy.leftovers() == []
        assert calls_per_second(cluster.calls) < 5
        # Those that are refused ask together, not each.
        assert sum(call.status == 403 for call in cluster.calls) < 3 * len(names)


def test_a_webhook_that_fails_for_one_job(tmp_path):
    with Cluster() as cluster:
        toy = KubeProject.toy(cluster, tmp_path, api_patience_s=6, api_backoff_s=1, api_attempts=6)
        cluster.faults.webhook = lambda job: job["metadata"]["labels"]["grace/rule"] == "fails"
        names = [f"ok-{number}" for number in range(4)]
        begun = time.monotonic()
        run = toy.want("fails-1", *names, arguments=("--keep-going",))
        wait_until(lambda: len(cluster.runs) == 4, PATIENCE_S, "the others' pods")
        refused = [call for call in cluster.calls if call.status == 500]
        assert len(refused) <= 2, f"others waited for it, {time.monotonic() - begun:.1f} s"
        assert run.wait() == 1
        assert toy.made() == set(names)
        assert "(fails) failed: create the Job" in run.output()
        assert "failed calling webhook" in words(run.output())
        assert toy.leftovers() == []
        refused = [call for call in cluster.calls if call.status == 500]
        assert len(refused) <= 6, "no back-off"


def pod_of(toy, rule):
    """The pod of a rule that runs."""
    (found,) = [one for one in toy.cluster.pods_of(rule=rule) if "deletionTimestamp" not in
                one["metadata"] and one["status"]["phase"] == "Running"]  # fmt: skip
    return found


def test_pods_that_the_cluster_ends_take_no_try(tmp_path):
    """Pre-empted: the Job makes another pod, by the policy that it has."""
    with Cluster() as cluster:
        toy = KubeProject.toy(cluster, tmp_path, tries=1, grace_s=20)
        run = toy.want("waits-1")
        wait_until(lambda: running(toy, "waits"), PATIENCE_S, "its pod")
        first = pod_of(toy, "waits")["metadata"]["name"]
        told = "preempting to accommodate a pod"
        # It ends once it was seen: a pod that is gone before the next look is told without why.
        cluster.disrupt(first, "PreemptionByScheduler", told, ends=False)
        wait_until(lambda: "PreemptionByScheduler" in run.output(), PATIENCE_S, "the reason")
        cluster.remove("pods", first)
        wait_until(lambda: len(cluster.runs) == 2, PATIENCE_S, "the pod of the same Job")
        assert {one.job for one in cluster.runs} == set(cluster.names("jobs"))
        (toy.folder / "go").touch()
        assert run.wait() == 0, run.output()
        assert cluster.overlaps() == []
        assert toy.leftovers() == []


def test_an_interrupt_ends_the_run_and_its_pods(toy):
    run = toy.want("waits-1", "waits-2")
    wait_until(lambda: running(toy, "waits", 2), PATIENCE_S, "both pods")
    run.signal(signal.SIGINT)
    assert run.wait() != 0
    assert toy.leftovers() == []
    assert all(one.ended is not None for one in toy.cluster.runs)


def test_an_evicted_controller_leaves_its_pods_to_the_next(toy):
    toy.environment["TOY_SECRET"] = "a-canary"
    run = toy.want("waits-1")
    wait_until(lambda: running(toy, "waits"), PATIENCE_S, "its pod")
    before = len(toy.cluster.calls)  # a Secret that was there is replaced
    run.signal(signal.SIGTERM)
    assert run.wait() != 0
    assert "the pods go on" in words(run.output())
    assert running(toy, "waits")
    assert [call for call in toy.cluster.calls[before:] if call.method == "DELETE"] == []
    again = toy.want("waits-1", arguments=("--rerun-incomplete",))
    wait_until(lambda: "adopted" in again.output(), PATIENCE_S, "the adoption")
    (toy.folder / "go").touch()
    assert again.wait() == 0, again.output()
    assert len(pods_run(toy, "waits")) == 1
    assert toy.leftovers() == []


def test_a_killed_controller_adopts_its_pods(toy):
    run = toy.want("waits-1", "ok-1")
    wait_until(lambda: running(toy, "waits"), PATIENCE_S, "its pod")
    wait_until(lambda: "ok-1" in toy.made(), PATIENCE_S, "the other's end")
    run.signal(signal.SIGKILL)
    run.wait()
    again = toy.want("waits-1", "ok-1", arguments=("--rerun-incomplete", "--nolock"))
    wait_until(lambda: "adopted" in again.output(), PATIENCE_S, "the adoption")
    (toy.folder / "go").touch()
    assert again.wait() == 0, again.output()
    assert len(pods_run(toy, "waits")) == 1
    assert toy.cluster.overlaps() == []
    assert toy.leftovers() == []


def test_a_killed_controller_s_jobs_go_when_nothing_is_left_to_do(toy):
    toy.environment["TOY_SECRET"] = "a-canary"
    run = toy.want("waits-1")
    wait_until(lambda: running(toy, "waits"), PATIENCE_S, "its pod")
    run.signal(signal.SIGKILL)
    run.wait()
    (toy.folder / "go").touch()
    wait_until(lambda: not running(toy, "waits"), PATIENCE_S, "the pod's end")
    assert toy.leftovers() != []
    again = toy.want("waits-1", arguments=("--rerun-triggers", "mtime", "--nolock"))
    assert again.wait() == 0
    assert "Nothing to be done" in again.output()
    assert "after shutdown" not in again.output()
    assert toy.leftovers() == []


@pytest.mark.parametrize(("rule", "file"), [("waits", "waits-1"), ("pair", "ends-1")])
def test_what_another_work_left_running_is_ended_first(toy, rule, file):
    """The pair's first half is done by then, so that the second Job has another name."""
    run = toy.want(file)
    wait_until(lambda: running(toy, rule), PATIENCE_S, "its pod")
    if rule == "pair":
        wait_until((toy.folder / "begun").exists, PATIENCE_S, "its second half")
    run.signal(signal.SIGKILL)
    run.wait()
    snakefile = toy.folder / "Snakefile"
    text = snakefile.read_text(encoding="utf-8")
    output = f'        "out/{file.split("-")[0]}-{{name}}",\n    '
    edited = text.replace(
        f"    output:\n{output}",
        f'    params:\n        output_config={{"edited": True}},\n    output:\n{output}',
    )
    assert edited != text
    snakefile.write_text(edited, encoding="utf-8")
    again = toy.want(file, arguments=("--rerun-incomplete", "--nolock"))
    wait_until(lambda: len(pods_run(toy, rule)) == 2, PATIENCE_S, "a pod that does the new work")
    (toy.folder / "go").touch()
    assert again.wait() == 0, again.output()
    assert "adopted" not in again.output()
    assert len({one.job for one in toy.cluster.runs}) == (2 if rule == "pair" else 1)
    assert toy.cluster.overlaps() == []
    assert toy.leftovers() == []


def test_jobs_stay_where_that_is_asked_for(toy):
    arguments = ("--kubernetes-omit-job-cleanup", "--keep-going")
    run = toy.want("ok-1", "fails-1", arguments=arguments)
    assert run.wait() == 1
    assert len(toy.cluster.names("jobs")) == 2
    assert toy.cluster.names("secrets") == []
    done = toy.want("ok-1", "fails-1", "ok-2", arguments=("--keep-going",))
    assert done.wait() == 1
    assert toy.leftovers() == []


def test_secrets_come_from_the_environment_and_are_removed(toy):
    toy.environment["TOY_SECRET"] = "a-canary"
    run = toy.want("waits-1")
    wait_until(lambda: running(toy, "waits"), PATIENCE_S, "its pod")
    (pod,) = toy.cluster.pods_of(rule="waits")
    assert "a-canary" not in str(pod)
    (container,) = pod["spec"]["containers"]
    command = container["command"][-1]
    assert "--storage-" not in command, "a plugin's settings that this run does not use"
    assert "--cores 1 " in command
    assert len(toy.cluster.names("secrets")) == 1
    (toy.folder / "go").touch()
    assert run.wait() == 0
    assert "a-canary" not in run.output()
    assert toy.leftovers() == []


def test_models_run_one_after_the_other_and_so_many_of_each(toy):
    names = [f"gpu-{model}-{number}" for model in ("first", "second") for number in range(3)]
    run = toy.want(*names, tags="[l40]", at_once="2")
    assert run.wait() == 0, run.output()
    runs = pods_run(toy, "gpu")

    def at_once(model):
        ours = [one for one in runs if one.labels["grace/model"] == model]
        return max(sum(a.began <= b.began < a.ended for a in ours) for b in ours)

    assert [at_once("first"), at_once("second")] == [2, 2]
    ends = max(one.ended for one in runs if one.labels["grace/model"] == "first")
    assert ends <= min(one.began for one in runs if one.labels["grace/model"] == "second")


def test_nothing_waits_for_a_cluster_that_never_answered(toy):
    toy.environment["TOY_SECRET"] = "a-canary"
    toy.cluster.fails(0)
    run = toy.want("ok-1")
    assert run.wait() == 1
    assert "Nothing was submitted. Does `kubectl get jobs` work here" in words(run.output())
    assert "Traceback" not in run.output()
    toy.cluster.works()
    assert toy.leftovers() == []


def test_a_secret_goes_even_if_jobs_cannot_be_deleted(toy):
    toy.environment["TOY_SECRET"] = "a-canary"
    run = toy.want("waits-1")
    wait_until(lambda: running(toy, "waits"), PATIENCE_S, "its pod")
    toy.cluster.fails(500, method="DELETE", path="/jobs")
    run.signal(signal.SIGINT)
    assert run.wait() != 0
    assert "What is left of this run in the cluster shows" in words(run.output())
    assert toy.cluster.names("secrets") == []
    toy.cluster.works()
    again = toy.want("waits-1", arguments=("--nolock",))
    wait_until(lambda: "adopted" in again.output(), PATIENCE_S, "the adoption")
    (toy.folder / "go").touch()
    assert again.wait() == 0, again.output()
    assert toy.leftovers() == []


def test_a_signal_ends_a_run_whose_cluster_is_away(toy):
    run = toy.want("waits-1")
    wait_until(lambda: running(toy, "waits"), PATIENCE_S, "its pod")
    toy.cluster.fails(0)
    before = len(toy.cluster.calls)
    wait_until(lambda: len(toy.cluster.calls) > before, PATIENCE_S, "a call that no one answers")
    run.signal(signal.SIGINT)
    assert run.wait() != 0
    assert "What is left of this run in the cluster shows" in words(run.output())


def test_what_would_break_the_policy_is_not_submitted(tmp_path):
    """Of what is asked for on the command line, too."""
    with Cluster() as cluster:
        toy = KubeProject.toy(cluster, tmp_path, policy={"max_hours_per_pod": 2})
        longer = ("--set-resources", "ok:runtime=180")
        run = toy.want("ok-1", arguments=longer)
        assert run.wait() == 1
        assert "it would break the rules of the cluster 'standin'" in words(run.output())
        assert "hours, grace-ok-" in run.output()
        assert "3 h, but at most 2 h" in run.output()
        assert cluster.runs == []
        run = toy.want("ok-1", arguments=("--set-resources", "ok:runtime=60"))
        assert run.wait() == 0, run.output()


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (("--kubernetes-service-account-name", "me"), "set `service_account` of the cluster"),
        (("--kubernetes-persistent-volumes", "claim:/data"), "name the claims in `volumes`"),
        (("--software-deployment-method", "conda"), "Software is in the image"),
    ],
)
def test_options_that_ours_does_not_take_are_refused(toy, arguments, refusal):
    run = toy.want("ok-1", arguments=arguments)
    assert run.wait() == 1
    assert refusal in words(run.output())
    assert "Traceback" not in run.output()
    assert toy.cluster.runs == []


def test_it_says_why_pods_cannot_see_this_folder(toy, tmp_path):
    text = (toy.folder / "clusters.yaml").read_text(encoding="utf-8")
    (toy.folder / "clusters.yaml").write_text(text.replace(str(toy.folder), "/elsewhere"))
    run = toy.want("ok-1")
    assert run.wait() == 1
    assert "pods could not see this folder" in run.output()
    assert "--default-storage-provider s3" in words(run.output())
    assert "Traceback" not in run.output()


def test_it_says_so_without_a_cluster(toy):
    toy.environment["KUBECONFIG"] = str(toy.folder / "nothing")
    run = toy.want("ok-1")
    assert run.wait() == 1
    assert "no access to a Kubernetes cluster" in run.output()
    assert "Traceback" not in run.output()
