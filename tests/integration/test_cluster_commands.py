"""`make cluster-…` as far as no cluster is needed; on a real one: tests/cluster."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

import pytest
import yaml
from waiting import PATIENCE_S
from workflow_project import Project

ROOT = Path(__file__).parents[2]
COMMANDS = ("up", "run", "status", "fetch", "down")
NOWHERE = """
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: "http://127.0.0.1:1"}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
users: [{name: none, user: {}}]
current-context: none
"""

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")


def bash(folder: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path):
    """A project under git, with a change that is not committed."""
    project = Project.copied_to(tmp_path / "checkout")
    shutil.copy(ROOT / ".gitignore", project.folder)
    identity = "-c user.name=tester -c user.email=tester@example.org"
    done = bash(project.folder, f"git init -q && git add -A && git {identity} commit -qm first")
    assert done.returncode == 0, done.stderr
    project.edit("config/config.yaml", "replications: 2", "replications: 1")
    return project.folder


@pytest.mark.parametrize("command", COMMANDS)
def test_no_way_to_the_cluster_is_reported_in_kubectls_own_words(checkout, tmp_path, command):
    (tmp_path / "kubeconfig").write_text(NOWHERE)
    bash(checkout, "echo 'cluster: local' >> config/config.yaml")
    done = bash(checkout, f"scripts/cluster/{command}.sh", KUBECONFIG=str(tmp_path / "kubeconfig"))
    assert done.returncode == 1
    first, words, context, *_ = done.stderr.strip().splitlines()
    assert first == "Stopped: no way to the namespace 'grace' of the cluster 'local'."
    assert "127.0.0.1:1 was refused" in words
    assert "The context was none;" in context
    assert "KUBECONFIG=" in done.stderr


@pytest.fixture
def mute_server(tmp_path):
    """A kubeconfig of an API server with a Job and its pod, which answers no deletion."""
    over = threading.Event()
    selves = {"name": "busy", "namespace": "grace", "uid": "1"}
    kinds = {
        "jobs": {"apiVersion": "batch/v1", "kind": "Job", "metadata": selves},
        "pods": {
            "apiVersion": "v1", "kind": "Pod", "metadata": selves, "spec": {"nodeName": "far"},
        },
        "secrets": None,
    }  # fmt: skip

    def resources(version, *names):
        found = [
            {"name": name, "kind": name.capitalize()[:-1], "namespaced": True,
             "verbs": ["get", "list", "delete", "watch"]} for name in names
        ]  # fmt: skip
        return {"kind": "APIResourceList", "groupVersion": version, "resources": found}

    batch = {"groupVersion": "batch/v1", "version": "v1"}
    known = {
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "groups": [{"name": "batch", "versions": [batch], "preferredVersion": batch}],
        },
        "/api/v1": resources("v1", "pods", "secrets"),
        "/apis/batch/v1": resources("batch/v1", "jobs"),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = urlparse(self.path).path
            kind = next((one for one in kinds if f"/{one}" in path), "")
            found = known.get(path) or kinds.get(kind)
            if path.endswith(tuple(kinds)):  # a list
                version = "batch/v1" if kind == "jobs" else "v1"
                found = {"apiVersion": version, "kind": "List", "items": [found] if found else []}
            body = json.dumps(found or {"kind": "Status", "code": 404}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self):
            over.wait(PATIENCE_S)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = tmp_path / "mute"
    path.write_text(NOWHERE.replace("127.0.0.1:1", f"127.0.0.1:{server.server_port}"))
    yield path
    over.set()
    server.shutdown()
    server.server_close()


def test_deletions_that_no_one_answers_end_and_name_what_is_left(checkout, tmp_path, mute_server):
    bash(checkout, "echo 'cluster: local' >> config/config.yaml")
    begun = time.monotonic()
    done = bash(
        checkout, "scripts/cluster/down.sh",
        KUBECONFIG=str(mute_server), KUBECACHEDIR=str(tmp_path / "cache"), LIMIT_S="1",
    )  # fmt: skip
    assert time.monotonic() - begun < 60
    assert done.returncode == 1, done.stdout
    assert "No answer within 1 s: kubectl delete job grace-controller" in done.stdout
    assert "this is left after 1 s:\n  Job busy\n  Pod busy on the node far\n" in done.stderr
    assert "kubectl get nodes" in done.stderr


def test_the_list_of_commands_is_aligned():
    listed = bash(ROOT, "make help").stdout.splitlines()
    found = [re.match(r"  make [a-z-]+  +(?=\S)", line) for line in listed]
    assert len({match.end() for match in found if match}) == 1


def test_a_cluster_without_manifests_is_reported(checkout):
    bash(checkout, "echo 'cluster: mine' >> config/config.yaml")
    done = bash(checkout, "scripts/cluster/status.sh")
    assert done.returncode == 1
    assert "there is no folder workflow/kubernetes/overlays/mine" in done.stderr


def test_arguments_reach_snakemake_as_they_were_typed(tmp_path):
    given = ["--config", "models=[a, b]", "generation={temperature: 0}", "x='y'", "$HOME", "*"]
    (tmp_path / "snakemake").write_text("#!/bin/bash\nprintf '%s\\n' \"$@\"\n")
    (tmp_path / "snakemake").chmod(0o755)
    script = 'source scripts/cluster/common.sh; component=$1; shift; manifest "$component" "" "$@"'
    for component, before in (
        ("controller", ["--executor", "kubernetes"]),
        ("prefetch", ["--cores", "1", "--nolock", "prefetch"]),
    ):
        made = subprocess.run(
            ["bash", "-c", script, "bash", component, *given],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        container = yaml.safe_load(made.stdout)["spec"]["template"]["spec"]["containers"][0]
        values = {v["name"]: v.get("value", "") for v in container["env"]}
        ran = subprocess.run(
            [*container["command"], *container["args"]],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "GRACE_ARGS": values["GRACE_ARGS"]},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout.splitlines() == [*before, *given]


def upload(checkout: Path, volume: Path) -> None:
    """Run the upload with a folder in the place of the pod's volume."""
    done = bash(
        checkout,
        "source scripts/cluster/common.sh; source scripts/cluster/upload.sh;"
        ' in_transfer_pod() { (cd "$VOLUME" && "$@"); }; upload',
        VOLUME=str(volume),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("mark", [".fetched", "pico/replication-0/.provenance/raw.json"])
def test_results_stay_where_they_are(checkout, tmp_path, mark):
    """In a folder that git does not ignore, and that is deleted here later."""
    volume = tmp_path / "volume"
    there, here = volume / "mine/report.html", checkout / "mine/report.html"
    for path in (there, here, checkout / "mine" / mark):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(path))
    # A record beside what the project itself holds makes no results of that.
    record = checkout / "resources/models/pico/.provenance/model.json"
    record.parent.mkdir()
    record.touch()
    upload(checkout, volume)
    assert there.read_text() == str(there)
    assert (volume / "resources/stimuli/study1.csv").exists()
    shutil.rmtree(checkout / "mine")
    upload(checkout, volume)
    assert there.exists()


def test_what_is_uploaded_is_this_checkout(checkout, tmp_path):
    volume = tmp_path / "volume"
    (volume / "results").mkdir(parents=True)
    (volume / "results/report.html").write_text("of the last run")
    (checkout / "results").mkdir()
    (checkout / "results/local.txt").write_text("stays")
    (checkout / "config/prompts/mine").mkdir()
    (checkout / "config/prompts/mine/a b.j2").write_text("new")
    upload(checkout, volume)
    assert "replications: 1" in (volume / "config/config.yaml").read_text()
    assert (volume / "config/prompts/mine/a b.j2").read_text() == "new"
    assert (volume / "results/report.html").read_text() == "of the last run"
    assert not (volume / "results/local.txt").exists()
    assert os.access(volume / "scripts/cluster/up.sh", os.X_OK)
    stamp = (checkout / "config/models.yaml").stat().st_mtime
    assert (volume / "config/models.yaml").stat().st_mtime == pytest.approx(stamp, abs=1)
    # The commit, and that one file differs from it, as provenance will say.
    assert bash(volume, "git rev-parse HEAD").stdout == bash(checkout, "git rev-parse HEAD").stdout
    changed = bash(volume, "git status --porcelain --untracked-files=no").stdout
    assert changed == " M config/config.yaml\n"

    # Files that are as they were are left alone: a pod may be reading them.
    before = (volume / "config/models.yaml").stat().st_ino
    (checkout / "config/prompts/mine/a b.j2").unlink()
    (checkout / "resources/stimuli/study1.csv").unlink()
    upload(checkout, volume)
    assert not (volume / "config/prompts/mine/a b.j2").exists()
    assert not (volume / "resources/stimuli/study1.csv").exists()
    assert (volume / "resources/stimuli/study2.csv").exists()
    assert (volume / "results/report.html").exists()
    assert (volume / "config/models.yaml").stat().st_ino == before
    (checkout / "config/models.yaml").write_text("{}")
    bash(checkout, "git -c user.name=tester -c user.email=tester@example.org commit -qam second")
    upload(checkout, volume)
    assert (volume / "config/models.yaml").read_text() == "{}"
    assert bash(volume, "git rev-parse HEAD").stdout == bash(checkout, "git rev-parse HEAD").stdout
    assert not list(volume.glob(".grace-arriving"))
