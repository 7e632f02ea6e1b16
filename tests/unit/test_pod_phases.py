"""What a pod does before its first answer, with times, on the terminal of the run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from grace.cluster.run.phases import PodPhases, line, timeline
from grace.provenance.environment import POD_FACTS
from grace.runs import pod_phases

POD = "grace-inference-x"


def pod(**status: Any) -> dict[str, Any]:
    labels = {"grace/rule": "inference", "grace/model": "gemma-2b"}
    metadata = {"name": POD, "labels": labels, "creationTimestamp": "2026-11-20T10:00:00Z"}
    return {"metadata": metadata, "status": {"phase": "Pending", **status}}


def scheduled(at: str) -> dict[str, Any]:
    return {"type": "PodScheduled", "status": "True", "lastTransitionTime": at}


def running(**more: Any) -> dict[str, Any]:
    state = {"running": {"startedAt": "2026-11-20T10:05:42Z"}}
    return pod(
        phase="Running",
        conditions=[scheduled("2026-11-20T10:00:12Z")],
        containerStatuses=[{"name": "snakemake", "state": state}],
        **more,
    )


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(POD_FACTS, str(tmp_path / "facts"))
    monkeypatch.setenv("POD_NAME", POD)
    return tmp_path / "facts"


def test_a_start_is_told_phase_by_phase_with_times(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    phases = PodPhases(inside, said.append)
    phases.look(pod())
    phases.look(pod())  # nothing new
    phases.look(pod(conditions=[scheduled("2026-11-20T10:00:12Z")]))
    phases.look(running())
    begun = datetime(2026, 11, 20, 10, 6, 30, tzinfo=UTC).timestamp()
    for seconds, phase in ((0, pod_phases.STARTING), (30, pod_phases.LOADING)):
        monkeypatch.setattr(pod_phases.time, "time", lambda seconds=seconds: begun + seconds)
        pod_phases.note(phase)
        phases.look(running())
    took = [text.split(": ", 1)[1] for text in said]
    assert took == [
        "waiting for a node since 10:00:00 UTC",
        "pulling the image since 10:00:12 UTC (before: waiting for a node 12 s)",
        "preparing since 10:05:42 UTC (before: waiting for a node 12 s, pulling the image 330 s)",
        "starting the server since 10:06:30 UTC (before: waiting for a node 12 s, pulling the"
        " image 330 s, preparing 48 s)",
        "loading weights since 10:07:00 UTC (before: waiting for a node 12 s, pulling the image"
        " 330 s, preparing 48 s, starting the server 30 s)",
    ]
    assert all(text.startswith(f"Phase of {POD}: ") for text in said)


def test_pods_without_a_model_and_those_that_have_ended_say_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    phases = PodPhases(tmp_path, said.append)
    tables = pod()
    tables["metadata"]["labels"]["grace/rule"] = "tables"
    phases.look(tables)
    phases.look(pod(phase="Succeeded"))
    assert said == []


@pytest.mark.parametrize(
    ("log", "phase"),
    [
        ("", pod_phases.STARTING),
        ("INFO x.py] Starting to load model google/gemma-2-2b-it...\n", "loading weights"),
        ("Starting to load model x...\nLoading weights took 12.30 s\n", "warming up the server"),
    ],
)  # fmt: skip
def test_the_servers_log_tells_its_phase(log: str, phase: str) -> None:
    assert pod_phases.server_phase(log) == phase


def test_a_half_written_note_and_none_are_no_error(inside: Path) -> None:
    assert pod_phases.noted(inside, POD) == []
    pod_phases.note("loading weights")
    with (inside / f"{POD}{pod_phases.SUFFIX}").open("a") as file:
        file.write("17")
    ((_, phase),) = pod_phases.noted(inside, POD)
    assert phase == "loading weights"


def test_outside_of_pods_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(POD_FACTS, raising=False)
    monkeypatch.chdir(tmp_path)
    pod_phases.note("loading weights")
    assert [*tmp_path.iterdir()] == []


def test_a_clock_that_is_behind_makes_no_negative_time() -> None:
    phases = timeline(running(), [(1.0, "answering")])
    assert "preparing 0 s" in line(POD, phases)
