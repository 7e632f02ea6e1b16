"""The chain from a machine that shares no volume with the cluster: everything travels over S3."""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from kube_project import KubeProject
from kube_standin import Cluster
from moto.server import ThreadedMotoServer
from waiting import PATIENCE_S, wait_until

from grace.journal.segments import scan, segments_in
from grace.provenance.verify import summary, verify

BUCKET, FOLDER = "grace", "study/one"
STORAGE = (
    "--default-storage-provider", "s3", "--default-storage-prefix", f"s3://{BUCKET}/{FOLDER}",
)  # fmt: skip
#: One study; both are in the pods of test_kubernetes_chain.py.
STUDY = ("studies=[study2]",)
KEYS = {"aws_access_key_id": "me", "aws_secret_access_key": "a-canary-of-a-key"}


def written(journal):
    """How often the journal holds each answer."""
    segments = [path for folder in journal.rglob("journal") for path in segments_in(folder)]
    return Counter(key for path in segments for _, _, key in scan(path) if key is not None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run whose pods mount nothing of the project, and what is in the bucket afterwards.

    The first pod is deleted while it computes.
    """
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    s3 = boto3.resource("s3", endpoint_url=url, region_name="us-east-1", **KEYS)
    node = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    with Cluster(environment=node) as cluster:
        folder = tmp_path_factory.mktemp("laptop")
        cluster.claims["journal"] = folder / "journal"
        cluster.claims["journal"].mkdir()
        journal = {"claim": "journal", "mount": "/journal", "purpose": "journal"}
        laptop = KubeProject.of_grace(cluster, folder, volumes={"journal": journal})
        (laptop.folder / ".gitignore").write_text("__pycache__/\n")
        for words in (["init", "-q"], ["add", "."]):  # what git knows is what pods get
            subprocess.run(["git", *words], cwd=laptop.folder, check=True)
        laptop.environment |= {
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": url,
            "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": KEYS["aws_access_key_id"],
            "SNAKEMAKE_STORAGE_S3_SECRET_KEY": KEYS["aws_secret_access_key"],
        }
        run = laptop.start(*STORAGE, config=STUDY)
        wait_until(lambda: written(cluster.claims["journal"]), PATIENCE_S, "the first answers")
        known = set(written(cluster.claims["journal"]))
        (pod,) = cluster.pods_of(rule="inference")
        cluster.remove("pods", pod["metadata"]["name"])
        status, output = run.wait(), run.output()
        assert status == 0, output
        dry = laptop.snakemake("-n", *STORAGE, config=STUDY)
        keys = {one.key: one for one in s3.Bucket(BUCKET).objects.all()}
        for key, found in keys.items():
            path = folder / "fetched" / Path(key).relative_to(FOLDER)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(found.get()["Body"].read())
        yield SimpleNamespace(
            laptop=laptop, output=output, dry=dry, fetched=folder / "fetched", keys=keys,
            journal=cluster.claims["journal"], known=known, runs=cluster.runs,
        )  # fmt: skip
    server.stop()


def test_the_whole_chain_is_in_the_bucket(finished):
    assert (finished.fetched / "results/report.html").stat().st_size > 10_000
    assert all(key.startswith(f"{FOLDER}/results/") for key in finished.keys)


def test_every_result_has_a_record_that_holds(finished, monkeypatch):
    """Records name results as in a local run, whatever they are called in the storage."""
    files = [
        path
        for path in (finished.fetched / "results").rglob("*")
        if path.is_file()
        and path.relative_to(finished.fetched / "results").parts[0] not in ("logs", "benchmarks")
        and path.parent.name != ".provenance"
    ]
    monkeypatch.chdir(finished.laptop.folder)  # where inputs are looked for
    verdicts = verify(files, finished.laptop.folder)
    assert len(files) > 30
    assert not any(verdicts.values()), summary(verdicts)


def test_answers_survive_a_pod_that_is_deleted(finished):
    groups = [run.labels["grace/rule"] for run in finished.runs]
    assert groups == ["inference", "inference", "tables", "report"]
    asked = written(finished.journal)
    assert finished.known
    assert {asked[key] for key in finished.known} == {1}


def test_logs_are_kept(finished):
    assert (finished.fetched / "results/logs/pico/replication-0/study2_exp1.log").exists()


def test_a_finished_run_has_nothing_to_do(finished):
    status, output = finished.dry
    assert status == 0
    assert "Nothing to be done" in output


def test_nothing_is_left_in_the_cluster_and_no_key_is_shown(finished):
    assert finished.laptop.leftovers() == []
    assert KEYS["aws_secret_access_key"] not in finished.output
    assert not any("snakemake-workflow-sources" in key for key in finished.keys)


def test_without_a_volume_for_the_journal_nothing_begins(finished):
    """Answers would die with their pods."""
    entry = finished.laptop.folder / "config/clusters.yaml"
    text = entry.read_text()
    entry.write_text(text.replace("purpose: journal", "purpose: other"))
    status, output = finished.laptop.snakemake(*STORAGE, config=(*STUDY, "replications=2"))
    entry.write_text(text)
    assert status == 1
    assert "answers would die with their pods" in output
    assert finished.laptop.leftovers() == []
