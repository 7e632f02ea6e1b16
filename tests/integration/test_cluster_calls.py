"""What `make cluster-…` asks of the API, and what they say of its answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from fake_kubectl import IMAGE, Cluster

JOBS = "workflow/kubernetes/overlays/local/jobs/kustomization.yaml"
OVERLAY = "workflow/kubernetes/overlays/local/kustomization.yaml"
ALL = (("up",), ("run",), ("status",), ("fetch",), ("down", "--everything"))

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    made = Cluster.made_in(tmp_path)
    results = made.volume / "results"
    results.mkdir()
    (results / "report.html").write_text("the cluster's")
    return made


# --- Which cluster --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ['cluster: "local" # mine', "cluster:    'local'", "cluster : local # mine"]
)
def test_the_config_is_read_as_yaml(cluster, line):
    cluster.configure(line)
    cluster.edit("config/clusters.yaml", "namespace: grace", 'namespace: "mine" # and a comment')
    done = cluster.run("status")
    assert done.returncode == 0, done.stderr
    assert cluster.calls()
    assert all("--namespace mine" in str(call) for call in cluster.calls("^--")), cluster.calls()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cluster:", "config/config.yaml, `cluster` must be a text"),
        ('cluster: ""', "config/config.yaml, `cluster` must be a text"),
        ("cluster: [local]", "config/config.yaml, `cluster` must be a text"),
        ("cluster: no", "config/config.yaml, `cluster` must be a text"),
        ("cluster: lo cal", "'lo cal' is no name of a cluster"),
        ("cluster: : local", "config/config.yaml: not readable as YAML: line"),
    ],
)
def test_an_odd_cluster_is_refused(cluster, line, message):
    cluster.configure(line)
    done = cluster.run("down")
    assert done.returncode == 1
    assert message in done.stderr
    assert not cluster.calls()


def test_a_cluster_without_an_entry_is_reported(cluster):
    shutil.copytree(
        cluster.checkout / "workflow/kubernetes/overlays/local",
        cluster.checkout / "workflow/kubernetes/overlays/mine",
    )
    cluster.configure("cluster: mine")
    done = cluster.run("status")
    assert done.returncode == 1
    assert "config/clusters.yaml has no entry 'mine'" in done.stderr
    assert "It holds: local nrp." in done.stderr


@pytest.mark.parametrize("given", ["cluster=nrp", "--config=cluster=nrp", "-Ccluster=nrp"])
@pytest.mark.parametrize("before", [(), ("--prefetch",)])
def test_a_cluster_among_the_arguments_is_refused(cluster, given, before):
    done = cluster.run("run", *before, "--config", given)
    assert done.returncode == 1
    assert "Set `cluster` in config/config.yaml" in done.stderr
    assert not cluster.calls()


@pytest.mark.parametrize("command", ALL, ids=" ".join)
def test_every_call_is_for_the_context_of_the_entry(cluster, command):
    cluster.edit("config/clusters.yaml", "local:\n", "local:\n  context: theirs\n")
    done = cluster.run(*command, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    assert cluster.calls()
    assert all(call.arguments[:2] == ["--context", "theirs"] for call in cluster.calls())


@pytest.mark.parametrize("command", ["up", "run"])
def test_entry_and_overlay_must_agree(cluster, command):
    cluster.edit("config/clusters.yaml", IMAGE, "mine:1")
    done = cluster.run(command)
    assert f"`images.default` is mine:1, but {JOBS} says:\n  {IMAGE}" in done.stderr
    cluster.edit(JOBS, "newName: grace", "newName: mine")
    cluster.edit(JOBS, "newTag: latest", 'newTag: "1"')
    assert cluster.run(command).returncode == 0

    cluster.edit("config/clusters.yaml", "namespace: grace", "namespace: mine")
    for path in (OVERLAY, JOBS):
        before = len(cluster.calls())
        done = cluster.run(command)
        assert done.returncode == 1
        assert f"`namespace` is mine, but {path} says:\n  grace" in done.stderr
        assert len(cluster.calls()) == before
        cluster.edit(path, "namespace: grace", "namespace: mine")
    assert cluster.run(command).returncode == 0


@pytest.mark.parametrize("command", ["up", "run"])
def test_the_placeholder_of_an_image_is_refused(cluster, command):
    cluster.configure("cluster: nrp")
    done = cluster.run(command)
    assert done.returncode == 1
    assert "is still the placeholder registry.example.org/you/grace" in done.stderr
    assert not cluster.calls()


# --- Starting and ending --------------------------------------------------------------------------


def test_a_run_is_copied_and_started(cluster):
    cluster.answer("get job grace-controller", "grace-controller SuccessCriteriaMet Complete")
    done = cluster.run("run", "--keep-going")
    assert done.returncode == 0, done.stderr
    assert (cluster.volume / "Snakefile").exists()
    started = [yaml.safe_load(call.given) for call in cluster.calls("create --filename")]
    assert [one["metadata"]["name"] for one in started] == ["grace-desk", "grace-controller"]
    order = [str(call).split()[2] for call in cluster.calls("delete (job|pod) |create")]
    assert order == ["create", "delete", "create", "delete"]


@pytest.mark.parametrize("conditions", ["", " Suspended", " FailureTarget"])
def test_nothing_is_copied_over_a_run(cluster, conditions):
    cluster.answer("get job grace-prefetch", f"grace-prefetch{conditions or ' '}")
    done = cluster.run("run")
    assert done.returncode == 1
    assert "grace-prefetch is still under way" in done.stderr
    assert not cluster.calls("create|exec|delete")


def test_a_run_that_begins_while_the_pod_starts_counts(cluster):
    """Who had the pod before may have started one."""
    cluster.answer("get job grace-controller", "grace-controller ", after=" wait ")
    done = cluster.run("run")
    assert "grace-controller is still under way" in done.stderr
    assert not cluster.calls("exec|delete job")


def test_nothing_is_copied_where_nobody_knows_of_a_run(cluster):
    cluster.answer("get job", error="Error from server (Forbidden): jobs is forbidden\n", status=1)
    done = cluster.run("run")
    assert done.returncode == 1
    assert "jobs is forbidden" in done.stderr
    assert "no one knows whether grace-controller is under way" in done.stderr
    assert not cluster.calls("create|exec|delete")


@pytest.mark.parametrize("everything", [False, True])
def test_down_deletes_what_it_says(cluster, everything):
    done = cluster.run("down", *["--everything"] * everything)
    assert done.returncode == 0, done.stderr
    deleted = [str(call).partition("delete ")[2].split() for call in cluster.calls("delete")]
    ours = "app.kubernetes.io/name=grace"
    labelled = [one for one in deleted if any(word.startswith(ours) for word in one)]
    by_label = {kind for one in labelled for kind in one[0].split(",")}
    by_name = {name for one in deleted if one not in labelled for name in one[1:] if name[0] != "-"}
    always = {"jobs", "pods", "secrets"}
    volumes = {"persistentvolumeclaims", "serviceaccounts", "roles", "rolebindings"}
    assert by_label == always | (volumes | {"resourcequotas"} if everything else set())
    secrets = {"grace-hf-token", "grace-environment"}
    assert by_name == {"grace-controller"} | (secrets if everything else set())
    # What else is in the namespace is not ours to delete.
    assert not cluster.calls("--kustomize|delete.*namespace[^ ]* |--all")


def test_everything_is_what_up_applies_but_the_namespace(cluster):
    assert cluster.run("down", "--everything").returncode == 0
    calls = cluster.calls("delete .*--selector")[2:]
    kinds = [call.arguments[3] for call in calls]
    ((selector, no_other),) = {tuple(call.arguments[5].split(",")) for call in calls}
    assert no_other == "!app.kubernetes.io/instance"
    overlay = str(cluster.checkout / OVERLAY.rpartition("/")[0])
    made = subprocess.run(
        ["kubectl", "kustomize", overlay], capture_output=True, text=True, check=True
    ).stdout
    applied = [one for one in yaml.safe_load_all(made) if one["kind"] != "Namespace"]
    assert {one["kind"].lower() + "s" for one in applied} == set(kinds)
    name, value = selector.split("=")
    assert {one["metadata"]["labels"].get(name) for one in applied} == {value}


def test_down_ends_and_names_what_a_silent_node_holds(cluster):
    """kubectl gives up after the time that it is given; without one it waits for ever."""
    late = "error: timed out waiting for the condition on pods/grace-x-abc\n"
    cluster.answer("delete jobs,pods", error=late, status=1)
    cluster.answer("get jobs,pods,secrets", "Job grace-x \nPod grace-x-abc node-7\n")
    done = cluster.run("down", "--everything", LIMIT_S="120")
    assert done.returncode == 1
    assert "this is left after 120 s:" in done.stderr
    assert "Pod grace-x-abc on the node node-7" in done.stderr
    assert "delete pods --force" in done.stderr
    for call in cluster.calls(" delete "):
        (limit,) = (word for word in call.arguments if word.startswith("--timeout="))
        assert 0 < int(limit.removeprefix("--timeout=").removesuffix("s")) <= 120
    # A Secret of a run goes all the same; volumes that a pod may hold are not touched.
    assert cluster.calls("delete secrets")
    assert not cluster.calls("delete persistentvolumeclaims")


def test_an_instance_is_ended_alone_and_without_one_nobody_elses(cluster):
    assert cluster.run("down").returncode == 0
    before = len(cluster.calls())
    of_none = [str(call) for call in cluster.calls("--selector")]
    assert all("name=grace,!app.kubernetes.io/instance" in call for call in of_none)
    cluster.edit("config/clusters.yaml", "local:\n", "local:\n  instance: anna\n")
    assert cluster.run("down", "--everything").returncode == 0
    for call in cluster.calls(" delete ")[before - 1 :]:
        assert "app.kubernetes.io/instance=anna" in str(call) or " anna-grace-" in str(call)


def test_up_tells_an_administrator_the_rights_and_makes_none_then(cluster):
    done = cluster.run("up", "--rights")
    assert done.returncode == 0, done.stderr
    kinds = [one["kind"] for one in yaml.safe_load_all(done.stdout)]
    assert sorted(kinds) == ["Role", "RoleBinding", "ServiceAccount"]
    assert not cluster.calls()
    cluster.edit(
        "config/clusters.yaml", "local:\n", "local:\n  instance: anna\n  controller_account: lab\n"
    )
    assert cluster.run("up").returncode == 0
    (applied,) = cluster.calls("apply --filename -")
    made = {one["kind"] for one in yaml.safe_load_all(applied.given)}
    assert made == {"PersistentVolumeClaim"}


def test_a_secret_that_exists_is_never_replaced(cluster):
    cluster.edit("config/clusters.yaml", "hf_token: {key", "hf_token: {name: lab, key")
    done = cluster.run("up", HF_TOKEN="hf_new")
    assert "there is no Secret lab" in done.stderr
    cluster.answer("get secret lab", "secret/lab")
    assert cluster.run("up", HF_TOKEN="hf_new").returncode == 0
    assert not cluster.calls("(delete|create) secret")


def test_another_token_takes_the_first_ones_place(cluster):
    cluster.answer("get secret", "secret/grace-hf-token")
    done = cluster.run("up", HF_TOKEN="hf_new")
    assert done.returncode == 0, done.stderr
    gone, made = cluster.calls("delete secret|create secret")
    assert "delete secret grace-hf-token --ignore-not-found" in str(gone)
    assert made.given == "hf_new"
    assert not cluster.calls("hf_new"), "everybody can read arguments"
    (applied,) = cluster.calls("apply --filename -")
    assert "PersistentVolumeClaim" in applied.given


def test_status_shows_the_last_phase_of_each_pod_that_goes_on(cluster):
    cluster.answer("get job grace-controller", "job/grace-controller")
    cluster.answer(
        "logs job/grace-controller",
        "3 of 9 steps (33%) done\n"
        "Phase of one: pulling the image since 10:00:12 UTC (before: waiting for a node 12 s)\n"
        "Phase of gone: answering since 10:00:12 UTC\n"
        "Phase of one: loading weights since 10:07:00 UTC (before: pulling the image 330 s)\n"
        + "".join(f"line {number}\n" for number in range(20)),
    )
    cluster.answer("get pods .*Succeeded", "one:\ntwo:\n")
    done = cluster.run("status")
    assert done.returncode == 0, done.stderr
    (phase,) = [text for text in done.stdout.splitlines() if text.startswith("Phase of")]
    assert phase.startswith("Phase of one: loading weights since 10:07:00 UTC")


# --- The pod that files travel through ------------------------------------------------------------


def test_an_image_that_cannot_be_pulled_is_reported_at_once(cluster):
    cluster.answer(" wait ", error="timed out", status=1)
    cluster.answer("get pod .*waiting", "Pending ImagePullBackOff")
    cluster.answer("get events", 'Back-off pulling image "grace:latest"\n')
    done = cluster.run("fetch")
    assert done.returncode == 1
    assert "Waiting for the pod grace-desk-" in done.stdout
    assert "did not start: Pending ImagePullBackOff" in done.stderr
    assert 'Back-off pulling image "grace:latest"' in done.stderr
    assert len(cluster.calls(" wait ")) == 1
    assert len(cluster.calls("delete pod grace-desk-")) == 1


def test_who_copies_files_keeps_the_pod(cluster):
    cluster.answer("create", error='pods "grace-desk" already exists\n', status=1)
    done = cluster.run("run")
    assert done.returncode == 1
    assert 'pods "grace-desk" already exists' in done.stderr
    assert "another command uses it, or was killed" in done.stderr
    assert not cluster.calls("delete pod |exec")
    # A killed command's goes once its deadline has ended it.
    (gone,) = cluster.calls("delete pods")
    assert "component=desk --field-selector status.phase=Failed" in str(gone)


def test_a_pod_that_goes_is_waited_for(cluster):
    cluster.answer("get pod grace-desk .*deletionTimestamp", "2026-01-01T00:00:00Z")
    assert cluster.run("run").returncode == 0
    first, *_ = cluster.calls("delete pod |create")
    assert "delete pod grace-desk --ignore-not-found --wait" in str(first)


def test_those_that_fetch_have_pods_of_their_own(cluster):
    for _ in range(2):
        assert cluster.run("fetch").returncode == 0
    made = [yaml.safe_load(call.given)["metadata"] for call in cluster.calls("create")]
    assert len({one["name"] for one in made}) == 2
    assert {one["labels"]["app.kubernetes.io/name"] for one in made} == {"grace"}


# --- Results come home ----------------------------------------------------------------------------


def report(cluster: Cluster, folder: str = "results") -> Path:
    return cluster.checkout / folder / "report.html"


def test_results_come_with_the_logs_of_their_run(cluster):
    state = cluster.volume / ".snakemake"
    for name in ("log/1.snakemake.log", "log/2.snakemake.log", "auxiliary/kubernetes-logs/a.log"):
        (state / name).parent.mkdir(parents=True, exist_ok=True)
        (state / name).write_text(name)
    done = cluster.run("fetch")
    assert done.returncode == 0, done.stderr
    assert report(cluster).read_text() == "the cluster's"
    here = cluster.checkout / ".snakemake"
    records = sorted(path.name for path in (here / "log").iterdir())
    assert records == ["1.snakemake.log", "2.snakemake.log"]
    assert (here / "auxiliary/kubernetes-logs/a.log").exists()
    assert "files of the same name were replaced" in done.stdout


def test_the_folder_is_that_of_the_config(cluster):
    (cluster.volume / "results").rename(cluster.volume / "of mine")
    cluster.configure('results: "of mine" # and a comment')
    done = cluster.run("fetch")
    assert done.returncode == 0, done.stderr
    assert report(cluster, "of mine").read_text() == "the cluster's"
    cluster.configure("results: [of mine]")
    assert "config/config.yaml, `results` must be a text" in cluster.run("fetch").stderr


def test_the_page_in_a_fresh_clone_is_no_result_of_this_machine(cluster):
    report(cluster).parent.mkdir()
    (report(cluster).parent / "README.md").write_text("# What will be here")
    for _ in range(2):
        done = cluster.run("fetch")
        assert done.returncode == 0, done.stderr


def test_results_of_this_machine_are_not_lost(cluster):
    report(cluster).parent.mkdir()
    report(cluster).write_text("made here")
    done = cluster.run("fetch")
    assert done.returncode == 1
    assert "results/report.html was made here, not fetched" in done.stderr
    assert 'make cluster-fetch ARGS="--replace results"' in done.stderr
    assert report(cluster).read_text() == "made here"
    assert not cluster.calls()

    assert cluster.run("fetch", "--replace", "results").returncode == 0
    assert report(cluster).read_text() == "the cluster's"
    # What was fetched may be fetched again, a look at its logs included.
    (cluster.checkout / "results/logs").mkdir()
    later = report(cluster).parent.joinpath(".fetched").stat().st_mtime + 10
    for name, status in (("logs/job_logs.log", 0), ("report.html", 1)):
        path = cluster.checkout / "results" / name
        path.write_text("made here")
        os.utime(path, (later, later))
        assert cluster.run("fetch").returncode == status, name
