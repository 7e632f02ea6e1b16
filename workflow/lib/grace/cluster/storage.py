"""Storage in a pod: files under the names that they have in a local run, and records with them.

Snakemake moves what rules declare, to and from a folder of its own. A record of how a file was made
(`grace.sidecars`) is no output of any rule, because it may be deleted on purpose without making its
file anew, so it travels here as its file's companion. Works for any of Snakemake's storage plugins.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from snakemake_interface_storage_plugins.registry import StoragePluginRegistry

from grace.sidecars import FOLDER, sidecar


def keep_names_and_records(workflow: Any) -> None:
    """Change the default storage provider's objects so, if this process is a pod's Snakemake.

    The controller keeps Snakemake's ways: there, a file under its own name may be somebody's copy.
    """
    provider = workflow.storage_settings.default_storage_provider
    if provider is None or not workflow.remote_exec:
        return
    prefix = str(workflow.storage_settings.default_storage_prefix).rstrip("/") + "/"
    plugin = StoragePluginRegistry().get_plugin(provider)
    module = sys.modules[plugin.storage_provider.__module__]
    if not hasattr(module.StorageObject, "grace_prefix"):
        parts = (_Named, module.StorageObject)
        module.StorageObject = type("StorageObject", parts, {"grace_prefix": prefix})


def plain_name(file: Any) -> str:
    """The name of a rule's file as the rule writes it, wherever the file is stored."""
    stored = getattr(file, "flags", {}).get("storage_object")
    if stored is None:
        return str(file)
    prefix: str = file.rule.workflow.storage_settings.default_storage_prefix
    return str(stored.query).removeprefix(f"{prefix.rstrip('/')}/")


class _Named:
    """Before a plugin's class: an object whose local path is its name, and which has a record."""

    grace_prefix: str
    query: str
    provider: Any

    def local_path(self) -> Path:
        """Where the file is in this pod."""
        if self.query.startswith(self.grace_prefix):
            return Path(self.query.removeprefix(self.grace_prefix))
        other: Path = super().local_path()  # type: ignore[misc]
        return other

    def store_object(self) -> None:
        """Store the file, then its record."""
        super().store_object()  # type: ignore[misc]
        record = self._record()
        if record is not None and record.local_path().exists():
            record.store_object()

    def retrieve_object(self) -> None:
        """Retrieve the file, and its record if it has one."""
        super().retrieve_object()  # type: ignore[misc]
        record = self._record()
        if record is not None and record.exists():
            record.local_path().parent.mkdir(parents=True, exist_ok=True)
            record.retrieve_object()

    def _record(self) -> Any:
        path = self.local_path()
        if not self.query.startswith(self.grace_prefix) or path.parent.name == FOLDER:
            return None
        return self.provider.object(f"{self.grace_prefix}{sidecar(path).as_posix()}")
