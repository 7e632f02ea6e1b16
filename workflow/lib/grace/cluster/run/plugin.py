"""How our executor takes the stock plugin's place, and what that does to a run's settings.

Snakemake looks executors up after it has read the Snakefile, which may put another one there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, replace
from typing import Any

import snakemake_executor_plugin_kubernetes as stock
from snakemake.resources import Resources
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry
from snakemake_interface_executor_plugins.registry.plugin import Plugin
from snakemake_interface_executor_plugins.settings import DeploymentMethod, SharedFSUsage

from grace.cluster.run.executor import Executor
from grace.cluster.run.pod_requests import ExecutorPlan
from grace.errors import GraceError

#: What pods share with a controller on the same volume: everything but installed software.
SHARED = frozenset(
    {
        SharedFSUsage.PERSISTENCE,
        SharedFSUsage.INPUT_OUTPUT,
        SharedFSUsage.SOURCES,
        SharedFSUsage.STORAGE_LOCAL_COPIES,
    }
)
#: Jobs at once where the command line does not say (`--jobs`).
JOBS = 500
#: Options of the stock plugin that ours does not take, and what does their work.
UNUSED = {
    "cpu_scalar": "pods request what `snakemake policy` shows, and `cpu` of a placement changes it",
    "service_account_name": "set `service_account` of the cluster in config/clusters.yaml",
    "privileged": "pods run without privileges; `run_as` in config/clusters.yaml names their user",
    "persistent_volumes": "name the claims in `volumes` of the cluster in config/clusters.yaml",
}


class KubernetesPlugin(Plugin):
    """The plugin under its stock name, which knows the workflow once it is the chosen one.

    `chosen` says whether this run's jobs become pods, or would in a dry-run.
    """

    workflow: Any = None
    fit: Callable[[], object] = staticmethod(lambda: None)
    chosen = False

    def validate_settings(self, settings: Any) -> None:
        """Also: without a storage provider a volume is shared, and `--jobs` may be left out.

        Snakemake calls this for the executor that was chosen and no other, so that nothing changes
        for local runs.
        """
        super().validate_settings(settings)
        _refuse_what_is_not_used(settings)
        try:
            self.fit()
        except GraceError as error:
            raise WorkflowError(str(error)) from None
        self.chosen = True
        workflow = self.workflow
        if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
            raise WorkflowError(
                "--software-deployment-method conda is for local runs: pods would build"
                " environments on a shared volume, which clusters forbid. Software is in the image"
                " (envs/Containerfile)."
            )
        provider = workflow.storage_settings.default_storage_provider
        stored = provider is not None
        # Pods would be given the settings of every plugin that is installed here.
        workflow.storage_provider_settings = {
            name: given
            for name, given in workflow.storage_provider_settings.items()
            if name == provider
        }
        self.common_settings = replace(
            stock.common_settings,
            implies_no_shared_fs=stored,
            # The image holds what the run needs.
            auto_deploy_default_storage_provider=False,
        )
        if not stored and workflow.storage_settings.shared_fs_usage == SharedFSUsage.all():
            workflow.storage_settings.shared_fs_usage = SHARED
        if workflow.resource_settings.default_resources is None:
            # The full ones would limit each pod's disk to what its inputs take.
            workflow.resource_settings.default_resources = Resources.default("bare")
        # The profile gives this machine's, which would limit what a pod gets.
        workflow.global_resources["_cores"] = None
        if workflow.resource_settings.nodes is None:
            workflow.resource_settings.nodes = JOBS
            workflow.global_resources["_nodes"] = JOBS


def register(
    workflow: Any, plan: Callable[[], ExecutorPlan], fit: Callable[[], object] = lambda: None
) -> KubernetesPlugin:
    """Put our executor into the stock one's place, for this process.

    `fit` is called as soon as the executor is chosen, `plan` once there are jobs and it is used;
    their `GraceError` is the user's mistake.
    """
    stock_plugin = ExecutorPluginRegistry().plugins["kubernetes"]
    plugin = KubernetesPlugin(
        executor=type("Executor", (Executor,), {"make_plan": staticmethod(plan)}),
        common_settings=stock_plugin.common_settings,
        _executor_settings_cls=stock_plugin.settings_cls,
        _name=stock_plugin.name,
    )
    plugin.workflow, plugin.fit = workflow, fit
    ExecutorPluginRegistry().plugins["kubernetes"] = plugin
    return plugin


def _refuse_what_is_not_used(settings: Any) -> None:
    """Options of the stock plugin whose place is the cluster's entry. Raises `WorkflowError`."""
    for option, key in UNUSED.items():
        default = stock.ExecutorSettings.__dataclass_fields__[option]
        unset = default.default if default.default is not MISSING else default.default_factory()
        if getattr(settings, option) != unset:
            raise WorkflowError(f"--kubernetes-{option.replace('_', '-')} is not used here: {key}.")
