"""What stands for functions of Snakemake gives what they give, and counts nothing twice."""

from __future__ import annotations

import os
import random
import signal
import threading
import types
from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest
import snakemake
import snakemake.api  # first: its modules import each other
from snakemake.common import get_function_params, overwrite_function_params
from snakemake.dag import DAG, ScriptProcessor
from snakemake.jobs import GroupJob
from snakemake.scheduling.job_scheduler import JobScheduler

from grace.runs import large_dags
from grace.runs.large_dags import KNOWN, end, once_a_script, parameters_once, ready


class Groups(dict):
    """Groups of jobs, which counts how often one is asked for."""

    asked = 0

    def get(self, *key):
        Groups.asked += 1
        return super().get(*key)


class Rule:
    """A rule of Snakemake's, as far as it is asked."""

    def __init__(self, script):
        self.script = script


def group(*jobs: int) -> GroupJob:
    made = GroupJob.__new__(GroupJob)
    made._jobs, made._toposorted = frozenset(jobs), None
    return made


def a_dag(chance: random.Random, jobs: int) -> types.SimpleNamespace:
    """Jobs in groups of neighbours, some in none, that depend on some of those before them."""
    groups, first = Groups(), 0
    while first < jobs:
        size = chance.randint(1, 6)
        members = range(first, min(first + size, jobs))
        if chance.random() < 0.8:
            for job in members:
                # As many objects as jobs: what counts is which jobs are in a group.
                groups[job] = group(*members)
        first += size
    depends = {
        job: {other: set() for other in range(job) if chance.random() < 0.3} for job in range(jobs)
    }
    left = defaultdict(int, {job: len(found) for job, found in depends.items()})
    return types.SimpleNamespace(_group=groups, _dependencies=depends, _n_until_ready=left)


@pytest.mark.parametrize("seed", range(20))
def test_a_job_is_ready_when_snakemake_finds_it_ready(seed):
    chance = random.Random(seed)
    dag = a_dag(chance, 25)
    for _ in range(30):
        for job in range(25):
            assert ready(dag, job) == DAG._ready(dag, job), job
        job = chance.randrange(25)
        dag._n_until_ready[job] = max(0, dag._n_until_ready[job] - chance.randint(1, 4))


def test_new_groups_are_counted_anew():
    """As after a checkpoint, when the DAG has other jobs."""
    dag = types.SimpleNamespace(
        _group={0: group(0, 1), 1: group(0, 1)},
        _dependencies={0: {}, 1: {0: set()}},
        _n_until_ready={0: 0, 1: 1},
    )
    assert ready(dag, 1)
    dag._group = {0: group(0), 1: group(1)}
    assert not ready(dag, 1)
    dag._group = {0: group(0, 1), 1: group(0, 1)}
    assert ready(dag, 1)


def test_dependencies_are_looked_at_once_however_often_jobs_end():
    jobs = 400
    last = group(jobs)
    dag = types.SimpleNamespace(
        _group=Groups({**{job: group(job) for job in range(jobs)}, jobs: last}),
        _dependencies={**{job: {} for job in range(jobs)}, jobs: dict.fromkeys(range(jobs))},
        _n_until_ready={**dict.fromkeys(range(jobs), 0), jobs: jobs},
    )
    Groups.asked = 0
    for _ in range(jobs):
        dag._n_until_ready[jobs] -= 1
        found = ready(dag, jobs)
    assert found
    assert Groups.asked < 4 * jobs


def test_parameters_are_read_once_and_as_before():
    class Thing:
        def method(self, wildcards, threads):
            """A method, whose object is another with every access."""

    def plain(wildcards, *, attempt=1, **others):
        """A function of a rule."""

    def given(*names):
        """A function whose parameters are said."""

    overwrite_function_params(given, ["wildcards", "input"])
    thing, read = Thing(), []
    remembered = parameters_once(lambda one: read.append(one) or get_function_params(one))
    callables = [
        plain, thing.method, Thing.method, given, partial(plain, attempt=2), lambda wildcards: 1,
    ]  # fmt: skip
    for one in (*callables, *callables, Thing().method):
        assert list(remembered(one)) == list(get_function_params(one))
    assert len(read) == len(callables)


def test_parameters_of_what_is_no_key():
    class Odd(list):
        def __call__(self, wildcards, threads):
            """Callable and not hashable."""

    remembered = parameters_once(get_function_params)
    assert list(remembered(Odd())) == list(remembered(Odd())) == ["wildcards", "threads"]


def test_a_script_is_looked_for_once_a_rule_unless_its_name_depends_on_the_job():
    seen = []
    look = once_a_script(lambda processor, job: seen.append(job.rule.script))
    processor = types.SimpleNamespace(script_type="script")
    for script in ("one.py", "one.py", Path("of_{wildcards.study}.py")):
        rule = Rule(script)
        for _ in range(2):
            look(processor, types.SimpleNamespace(rule=rule))
    assert [str(script) for script in seen] == [
        "one.py", "one.py", "of_{wildcards.study}.py", "of_{wildcards.study}.py",
    ]  # fmt: skip


def test_a_script_that_is_not_there_is_looked_for_again():
    tries = []

    def missing(processor, job):
        tries.append(job)
        raise FileNotFoundError

    look = once_a_script(missing)
    job = types.SimpleNamespace(rule=Rule("gone.py"))
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            look(types.SimpleNamespace(script_type="script"), job)
    assert len(tries) == 2


@pytest.mark.parametrize("dryrun", [True, False])
def test_sigterm_ends_a_dry_run_at_once_and_a_run_after_its_jobs(dryrun):
    """Also while the scheduler holds its lock, where Snakemake waits for itself."""
    child = os.fork()
    if child == 0:
        scheduler = types.SimpleNamespace(
            dryrun=dryrun, _lock=threading.Lock(), _open_jobs=threading.Semaphore(0)
        )
        signal.signal(signal.SIGTERM, partial(end, scheduler))
        with scheduler._lock:
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7 if scheduler._user_kill == "graceful" and scheduler._open_jobs._value else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (-signal.SIGTERM if dryrun else 7)


def test_the_installed_snakemake_is_one_that_was_looked_at():
    """A new one: compare what `large_dags` stands for, then measure docs/performance.md again."""
    assert snakemake.__version__.startswith(KNOWN)
    for owner, name in (
        (DAG, "_ready"), (ScriptProcessor, "process_job"), (JobScheduler, "exit_gracefully"),
    ):  # fmt: skip
        assert callable(getattr(owner, name))


def test_another_snakemake_is_left_alone(monkeypatch):
    monkeypatch.setattr(snakemake, "__version__", "10.0.0")
    before = DAG._ready
    large_dags.adapt_scheduling()
    assert DAG._ready is before
