"""An API server that restarts again and again while runs are under way."""

from __future__ import annotations

import random

import pytest
from kube_project import KubeProject
from kube_standin import Cluster
from waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.long

RESTARTS, RUNS, JOBS = 50, 5, 24


def test_fifty_restarts_end_no_run_and_no_pod(tmp_path):
    """At random moments of runs that create, watch and delete their Jobs."""
    chance = random.Random(16)
    project = []

    def simulate(pod):
        number = pod["metadata"]["labels"]["grace/replication"]
        (project[0].folder / "out" / f"sim-{number}").touch()
        return chance.uniform(2, 12)

    with Cluster(simulate=simulate) as cluster:
        toy = KubeProject.toy(cluster, tmp_path, tries=1, api_attempts=6, api_backoff_s=0.5)
        toy.environment["TOY_SECRET"] = "a-canary"
        project.append(toy)
        (toy.folder / "out").mkdir()
        for number in range(RUNS):
            names = [f"sim-{number * JOBS + index}" for index in range(JOBS)]
            run = toy.want(*names)
            for _ in range(RESTARTS // RUNS):
                before = len(cluster.calls)
                most = before + chance.randrange(2, 12)
                wait_until(lambda most=most: len(cluster.calls) >= most, PATIENCE_S, "calls")
                cluster.faults.restart(chance.uniform(0.1, 3), forbids=chance.randrange(1, 4))
            assert run.wait() == 0, run.output()
            assert toy.leftovers() == []
        assert cluster.faults.restarts == RESTARTS
        assert len(cluster.runs) == RUNS * JOBS, "each pod ran once"
        assert {one.exit_code for one in cluster.runs} == {0}
