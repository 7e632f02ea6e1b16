"""The stock executor plugin and Snakemake's interface are as ours was written for.

Ours takes the stock plugin's place and relies on its insides. What is behind a version counts, not
its number. When one of these fails after an update, read what changed, fix `grace.cluster.run`, and
write the new values here.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from dataclasses import fields
from pathlib import Path

import pytest
import snakemake_executor_plugin_kubernetes as stock
from snakemake.api import DAGApi
from snakemake.dag import DAG
from snakemake.resources import Resources
from snakemake.spawn_jobs import SpawnedJobArgsFactory
from snakemake_interface_common.plugin_registry import PluginRegistryBase
from snakemake_interface_executor_plugins.executors.base import AbstractExecutor
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.registry.plugin import Plugin
from snakemake_interface_storage_plugins.storage_object import (
    StorageObjectBase,
    StorageObjectRead,
    StorageObjectWrite,
)

import grace.cluster.plan


def digest(thing):
    return hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()[:16]


def test_the_stock_plugin_is_the_one_that_was_read():
    assert digest(stock) == "8a01e1de05c0676c"


def test_its_settings_and_what_it_reports_to_snakemake():
    assert [field.name for field in fields(stock.ExecutorSettings)] == [
        "namespace", "cpu_scalar", "service_account_name", "privileged", "persistent_volumes",
        "omit_job_cleanup",
    ]  # fmt: skip
    assert stock.ExecutorSettings.namespace == "default"
    assert stock.common_settings.implies_no_shared_fs
    assert stock.common_settings.job_deploy_sources


def test_snakemakes_side_of_an_executor():
    found = {
        thing.__qualname__: digest(thing)
        for thing in (
            AbstractExecutor, RealExecutor, RemoteExecutor, Plugin, SpawnedJobArgsFactory,
            DAGApi.execute_workflow, DAG.__len__, DAG.get_job_group, DAG.needrun_jobs,
            PluginRegistryBase, Resources.default, StorageObjectBase, StorageObjectRead,
            StorageObjectWrite,
        )
    }  # fmt: skip
    assert found == {
        "AbstractExecutor": "493ae025ae943ad8",
        "RealExecutor": "321cf7d69bf061c1",
        "RemoteExecutor": "766034ebde62168d",
        "Plugin": "fbbe7be11e115e86",
        "SpawnedJobArgsFactory": "1a548ddaabfd44e7",
        "DAGApi.execute_workflow": "525655b9e7ffc18c",
        "DAG.__len__": "45c671dc02c7faab",
        "DAG.get_job_group": "2ccb54557c5e3a9d",
        "DAG.needrun_jobs": "fb49d381caf94209",
        "PluginRegistryBase": "1d5c596fcfdce9a9",
        "Resources.default": "2cff13eff1bf2276",
        "StorageObjectBase": "7b33010c01e8d64d",
        "StorageObjectRead": "01374e880a58493b",
        "StorageObjectWrite": "d408aa6fcf03222e",
    }


PLAN = Path(grace.cluster.plan.__file__).parent


@pytest.mark.parametrize("path", sorted(PLAN.glob("*.py")), ids=lambda path: path.stem)
def test_what_decides_knows_nothing_of_what_talks_to_a_cluster(path):
    """`plan` can be used, and tested, without a cluster and without Snakemake."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    talks = (
        "grace.cluster.run",
        "kubernetes",
        "snakemake",
        "urllib",
        "http",
        "socket",
        "subprocess",
    )
    assert [name for name in imported if name.startswith(talks)] == []
