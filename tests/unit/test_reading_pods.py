"""Pods of tables in which a model of the run's own reads answers: golden, valid, within policy."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import yaml
from bundled_studies import ROOT

from grace.cluster.plan import pod_plan, policy, policy_report, reading_pods
from grace.cluster.plan.pods import job_manifest
from grace.cluster.run.jobs import TrackedJob
from grace.cluster.run.queue import Order, ready
from grace.forecast import report
from grace.forecast.estimate import Forecaster
from grace.forecast.reading import reading_work
from grace.settings.project import Project

GOLDEN = Path(__file__).parent / "golden" / "reading_pods" / "nrp-reading-by-llama-8b.yaml"
READ = {"method": "rules-then-model", "model": "llama-8b"}


def project(extraction=READ, **values) -> Project:
    own = {
        "models": ["pico", "gemma-2b"], "replications": 2, "cluster": "nrp", "gpus": ["a100"],
        "limit": 40,
    }  # fmt: skip
    return Project(ROOT, {**own, "extraction": extraction, **values}, {})


def tables(found: Project):
    return [pod for pod in pod_plan.pods(found) if pod.rule == "tables"]


def test_the_pod_of_tables_gets_the_readers_gpus_weights_and_journal():
    found = project()
    first = tables(found)[0]
    assert (first.loads, first.model, first.gpus) == ("llama-8b", "pico", 1)
    manifest = job_manifest(first, found.cluster)
    written = yaml.safe_dump(manifest, sort_keys=False, width=100)
    if os.environ.get("GRACE_GOLDEN") == "write":
        GOLDEN.write_text(written, encoding="utf-8")
    assert written == GOLDEN.read_text(encoding="utf-8")
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    variables = {one["name"] for one in container["env"]}
    assert {"GRACE_GPU_TAG", "HF_HOME", "GRACE_JOURNAL_DIR"} <= variables


def test_pods_without_a_reader_are_what_they_were():
    for extraction in ({}, {"method": "model", "api_key_env": None}):
        for pod in tables(project(extraction)):
            assert (pod.loads, pod.gpus, pod.disk_mb, pod.cores) == (None, 0, None, 1)
            assert pod.reads_answers == bool(extraction)


def test_the_policy_counts_the_readers_hours_and_its_pods_wait_their_turn():
    found = project()
    pods = pod_plan.pods(found)
    assert all(pod.expected_min is not None for pod in pods if pod.gpus)
    assert not policy.broken(policy_report.verdicts(found))
    assert policy_report.text(found).count("llama-8b") == 0  # by the model whose answers it reads
    narrow = found.cluster.policy.model_copy(update={"max_gpu_hours": 0.001})
    found.__dict__["cluster"] = found.cluster.model_copy(update={"policy": narrow})
    assert "GPU-hours" in {one.rule for one in policy.broken(policy_report.verdicts(found))}
    waiting = [TrackedJob(None, pod).waiting() for pod in pods]  # type: ignore[arg-type]
    readers = [one for one in waiting if one.model == "llama-8b"]
    assert len(readers) == 4
    models = list(reading_pods.models_loaded(found))
    assert models == ["pico", "gemma-2b", "llama-8b"]
    order = Order(models, dict.fromkeys(models, 1), 2, in_sequence=True)
    assert len(ready(readers, [], order)) == 1  # as many as the reader's parallelism allows


def test_a_pod_may_run_on_the_readers_tag_where_no_other_model_does():
    alone = {"models": ["pico"], "gpus": ["a100"], "cluster": "nrp"}
    inside = Project(ROOT, {**alone, "extraction": READ}, {"GRACE_GPU_TAG": "a100"})
    assert inside.reader is not None
    assert inside.reader.config == project(models=["pico"]).reader.config  # type: ignore[union-attr]


def test_a_reader_that_fits_no_gpu_is_refused_and_one_on_cores_needs_none():
    on_cores = tables(project({"method": "model", "model": "pico"}))[0]
    assert (on_cores.loads, on_cores.gpus, on_cores.cores) == ("pico", 0, 4)
    assert on_cores.runtime_min >= pod_plan.steps.pod_minutes("tables", project().asked)
    assert replace(on_cores, reader=None).loads is None


def test_what_is_asked_of_a_reader_is_counted():
    work = reading_work(project(), "pico", "study2")
    whole = reading_work(project(), "pico", "study2", whole=True)
    assert whole.requests == len(project().trials["study2"])
    assert work.requests == round(whole.requests / 10)
    assert work.new_tokens / work.requests > 5
    assert work.read_tokens / work.requests > 300
    twice = reading_work(project({**READ, "queries": 3}), "pico", "study2")
    assert twice.requests == 3 * work.requests or abs(twice.requests - 3 * work.requests) <= 3
    assert reading_work(project({}), "pico", "study2").requests == 0


def test_the_forecast_says_where_the_reader_runs_and_for_how_long():
    def said(extraction) -> str:
        found = project(extraction, limit=4)
        return "".join(report.text(found, Forecaster(found)).split("Reading answers")[1:])

    own = said(READ)
    assert own.startswith(" (rules-then-model)")
    assert " hours by llama-8b, a100, beside the above" in own
    assert "public services" not in own
    assert "unknown" not in own
    assert "public services" in said({"method": "model", "api_key_env": None})
    assert said({}) == ""
