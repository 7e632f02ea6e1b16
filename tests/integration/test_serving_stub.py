"""The serving lease with a stub in place of vLLM: every fault, in seconds.

tests/long/test_serving.py repeats the most important ones with real vLLM.
"""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from lease_helpers import Farm, free_port, kill_dash_nine
from waiting import PATIENCE_S, wait_until

from grace.errors import EngineError
from grace.provenance.environment import POD_FACTS
from grace.runs import pod_phases
from grace.serving import ServerSpec, lease_server


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[Farm]:
    farm = Farm(tmp_path)
    yield farm
    farm.close()


def healthy(base_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base_url}/health", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def hold(farm: Farm, spec: ServerSpec) -> None:
    """Take the lease in this process and give it back."""
    with lease_server(spec, journal_dir=farm.journal, log_dir=farm.logs):
        pass


def crash(base_url: str) -> None:
    host = base_url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", "/crash")
    connection.close()


def gone(farm: Farm) -> None:
    wait_until(lambda: not farm.everything(), PATIENCE_S, f"gone: {farm.everything()}")


def test_jobs_share_one_server_and_it_stops_after_the_idle_period(farm: Farm) -> None:
    jobs = [farm.job(farm.spec(idle_s=1)) for _ in range(3)]
    urls = {job.line() for job in jobs}
    assert len(urls) == 1
    assert healthy(urls.pop())
    assert len(farm.starts()) == 1
    for job in jobs:
        job.leave()
    gone(farm)


def test_a_pod_notes_the_phases_of_its_servers_start(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(POD_FACTS, str(farm.folder / "facts"))
    monkeypatch.setenv("POD_NAME", "grace-x")
    hold(farm, farm.spec())
    hold(farm, farm.spec())  # it runs already
    phases = [phase for _, phase in pod_phases.noted(farm.folder / "facts", "grace-x")]
    assert phases[0] == pod_phases.STARTING
    assert phases[-1] == pod_phases.ANSWERING
    assert phases.count(pod_phases.STARTING) == 1
    gone(farm)


def test_a_later_job_finds_the_server_within_the_idle_period(farm: Farm) -> None:
    spec = farm.spec(idle_s=600)
    first = farm.job(spec)
    url = first.line()
    first.leave()
    second = farm.job(spec)
    assert second.line() == url
    assert len(farm.starts()) == 1


def test_another_configuration_has_a_server_of_its_own(farm: Farm) -> None:
    one = farm.job(farm.spec(identity={"dtype": "float32"}))
    two = farm.job(farm.spec(identity={"dtype": "bfloat16"}))
    assert one.line() != two.line()
    assert len(farm.starts()) == 2


def test_an_idle_server_makes_room_for_another_model(farm: Farm) -> None:
    idle = farm.job(farm.spec(idle_s=600))
    url = idle.line()
    idle.leave()
    other = farm.job(farm.spec(name="other"))
    assert other.line() != url
    assert not healthy(url)


def test_a_held_server_does_not_make_room(farm: Farm) -> None:
    held = farm.job(farm.spec())
    url = held.line()
    other = farm.job(farm.spec(name="other"))
    assert other.line() != url
    assert healthy(url)


def test_kill_of_a_job_drops_its_lock(farm: Farm) -> None:
    job = farm.job(farm.spec())
    assert job.line()
    job.kill()
    gone(farm)


def test_kill_of_a_job_while_the_server_starts(farm: Farm) -> None:
    job = farm.job(farm.spec("never-ready"))
    wait_until(farm.starts, PATIENCE_S, "the server process runs")
    job.kill()
    gone(farm)


def test_kill_of_the_workflow_stops_an_unused_server_at_once(farm: Farm) -> None:
    workflow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    job = farm.job(farm.spec(idle_s=600), workflow.pid)
    assert job.line()
    job.leave()
    assert farm.everything()
    workflow.kill()
    workflow.wait()
    gone(farm)


def test_kill_of_the_workflow_and_its_jobs(farm: Farm) -> None:
    workflow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    jobs = [farm.job(farm.spec(idle_s=600), workflow.pid) for _ in range(2)]
    for job in jobs:
        assert job.line()
    workflow.kill()
    workflow.wait()
    for job in jobs:
        job.kill()
    gone(farm)


def test_another_workflows_job_keeps_the_server_of_a_dead_workflow(farm: Farm) -> None:
    workflow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    first = farm.job(farm.spec(idle_s=600), workflow.pid)
    url = first.line()
    second = farm.job(farm.spec(idle_s=600))
    assert second.line() == url
    workflow.kill()
    workflow.wait()
    first.kill()
    # The supervisor looks several times in a second, so this is ample for a wrong stop to show.
    with pytest.raises(subprocess.TimeoutExpired):
        second.process.wait(1.5)
    assert healthy(url)
    second.order("again")
    assert second.line() == url
    assert len(farm.starts()) == 1


def test_kill_of_the_server_restarts_it_once(farm: Farm) -> None:
    job = farm.job(farm.spec())
    assert job.line()
    kill_dash_nine(farm.starts()[0])
    wait_until(lambda: len(farm.starts()) == 2, PATIENCE_S, "restart")
    job.order("again")
    assert healthy(job.line())
    children = [p for p in farm.processes("time.sleep") if p.pid not in farm.starts()]
    assert len(children) == 1, "the first server's child is to be gone"
    job.leave()
    gone(farm)


def test_a_second_crash_is_an_error_with_the_last_log_lines(farm: Farm) -> None:
    with lease_server(farm.spec(), journal_dir=farm.journal, log_dir=farm.logs) as lease:
        crash(lease.wait_ready())
        wait_until(lambda: len(farm.starts()) == 2, PATIENCE_S, "restart")
        crash(lease.wait_ready())
        wait_until(lambda: not farm.supervisors(), PATIENCE_S, "the supervisor gives up")
        with pytest.raises(EngineError) as caught:
            lease.wait_ready()
    assert "ended with exit code 1 while it was in use" in str(caught.value)
    assert "restarted once" in str(caught.value)
    assert "CUDA error: an illegal memory access" in str(caught.value)
    assert str(farm.logs / "server-stub.log") in str(caught.value)
    gone(farm)


def test_a_server_killed_while_it_starts_is_started_again_once(farm: Farm) -> None:
    job = farm.job(farm.spec("never-ready"))
    wait_until(farm.starts, PATIENCE_S, "the server process runs")
    kill_dash_nine(farm.starts()[0])
    wait_until(lambda: len(farm.starts()) == 2, PATIENCE_S, "restart")
    kill_dash_nine(farm.starts()[1])
    errors = job.failure()
    again = "ended with exit code 137 while it was starting; it had been restarted once already"
    assert again in errors
    assert len(farm.starts()) == 2
    gone(farm)


def test_a_server_killed_while_it_starts_serves_at_the_second_start(farm: Farm) -> None:
    spec = farm.spec("slow-at-first")
    job = farm.job(spec)
    wait_until(farm.starts, PATIENCE_S, "the server process runs")
    kill_dash_nine(farm.starts()[0])
    assert healthy(job.line())
    assert len(farm.starts()) == 2


def test_the_error_of_a_server_that_dies_twice_begins_with_the_first_cause(farm: Farm) -> None:
    with lease_server(
        farm.spec("once-broken"), journal_dir=farm.journal, log_dir=farm.logs
    ) as lease:
        crash(lease.wait_ready())
        wait_until(lambda: not farm.supervisors(), PATIENCE_S, "the supervisor gives up")
        with pytest.raises(EngineError) as caught:
            lease.wait_ready()
    first, _, then = str(caught.value).partition("It was started again.")
    assert "ended with exit code 1 while it was in use" in first
    assert "CUDA error: an illegal memory access" in first
    assert "ended with exit code 3 while it was starting" in then
    assert "weights are damaged" in then


def test_after_a_failure_the_next_job_starts_afresh(farm: Farm) -> None:
    with pytest.raises(EngineError):
        hold(farm, farm.spec("broken"))
    gone(farm)
    with pytest.raises(EngineError):
        hold(farm, farm.spec("broken"))
    assert len(farm.starts()) == 2


def test_a_server_that_cannot_start_is_an_error_at_once(farm: Farm) -> None:
    job = farm.job(farm.spec("broken"))
    errors = job.failure()
    assert "ended with exit code 3 while it was starting" in errors
    assert "weights are damaged" in errors
    assert len(farm.starts()) == 1, "a start that fails is not repeated"


def test_a_start_has_a_limit(farm: Farm) -> None:
    errors = farm.job(farm.spec("never-ready", start_timeout_s=1.0)).failure()
    assert "was not ready after 1 s (`serving.start_timeout_s`)" in errors
    gone(farm)


def test_a_slow_start_logs_progress(
    farm: Farm, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits() -> list[str]:
        return [text for text in caplog.messages if "waiting for its server" in text]

    monkeypatch.setattr("grace.serving.lease.PROGRESS_S", 0.2)
    caplog.set_level(logging.INFO, "grace")
    holder = threading.Thread(target=hold, args=(farm, farm.spec("ready-when-told")))
    holder.start()
    try:
        wait_until(lambda: len(waits()) >= 3, PATIENCE_S, "three lines")
        wait_until(
            lambda: waits()[-1].endswith("last line: stub: loading"), PATIENCE_S, "its last line"
        )
    finally:
        (farm.folder / "go").touch()
        holder.join()


def test_kill_of_the_supervisor_kills_the_server(farm: Farm) -> None:
    job = farm.job(farm.spec())
    assert job.line()
    (supervisor,) = farm.supervisors()
    kill_dash_nine(supervisor.pid)
    wait_until(lambda: not psutil.pid_exists(farm.starts()[0]), PATIENCE_S, "the server is gone")
    job.kill()
    gone(farm)


def test_a_holder_survives_the_kill_of_the_supervisor(farm: Farm) -> None:
    job = farm.job(farm.spec())
    url = job.line()
    (supervisor,) = farm.supervisors()
    kill_dash_nine(supervisor.pid)
    wait_until(lambda: not healthy(url), PATIENCE_S, "the server is gone")
    job.order("again")
    started = job.line()
    wait_until(lambda: healthy(started), PATIENCE_S, "the new server answers")
    job.leave()
    gone(farm)


def test_kill_of_the_process_guard_leaves_no_orphan(farm: Farm) -> None:
    job = farm.job(farm.spec())
    assert job.line()
    (guard,) = farm.processes("grace.serving.process_guard")
    kill_dash_nine(guard.pid)
    wait_until(lambda: len(farm.starts()) == 2, PATIENCE_S, "restart")
    job.order("again")
    assert healthy(job.line())
    assert len(farm.processes("time.sleep")) == 1
    job.leave()
    gone(farm)


def test_sigterm_to_the_supervisor_stops_the_server(farm: Farm) -> None:
    job = farm.job(farm.spec())
    assert job.line()
    (supervisor,) = farm.supervisors()
    os.kill(supervisor.pid, signal.SIGTERM)
    gone(farm)


def test_a_taken_port_is_named_at_once(farm: Farm) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        errors = farm.job(farm.spec(port=port)).failure()
    assert f"serving.port: port {port} cannot be used (Address already in use)" in errors
    assert not farm.starts()


def test_models_take_turns_on_a_fixed_port(farm: Farm) -> None:
    port = free_port()
    first = farm.job(farm.spec(port=port, idle_s=600))
    assert first.line() == f"http://127.0.0.1:{port}"
    errors = farm.job(farm.spec(port=port, name="second")).failure()
    assert f"port {port} serves another model, 'stub', that is in use" in errors
    first.leave()
    third = farm.job(farm.spec(port=port, name="third"))
    assert third.line() == f"http://127.0.0.1:{port}"
    assert len(farm.starts()) == 2
