"""The chain through `snakemake --executor kubernetes`, on a stand-in for the cluster."""

from __future__ import annotations

import pytest
from kube_project import KubeProject
from kube_standin import Cluster


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    with Cluster() as cluster:
        project = KubeProject.on(cluster, tmp_path_factory.mktemp("kube"))
        project.run()
        yield project


def test_the_chain_gives_the_report(finished):
    assert (finished.project.folder / "results/report.html").stat().st_size > 10_000


def test_nothing_is_left(finished):
    assert finished.leftovers() == []
