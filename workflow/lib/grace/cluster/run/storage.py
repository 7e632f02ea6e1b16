"""Storage: what Snakemake's plugins move between a controller and pods that share no volume.

With a default storage provider Snakemake keeps every file of a rule in the storage, and a copy in a
folder of its own. Three things differ here, whatever the plugin:

- In a pod a result has the name that it has in a local run, so that records of how it was made, and
  those who fetch the results, need know nothing of storage.
- A record (`grace.provenance.sidecars`) travels with its file. It is no output of any rule, because
  it may be deleted on purpose without its file being rebuilt.
- Files of the project, such as stimuli, are no objects in the storage: pods get them with the code.
"""

from __future__ import annotations

import sys
from pathlib import Path, PurePosixPath
from typing import Any

from snakemake_interface_storage_plugins.registry import StoragePluginRegistry

from grace.provenance.sidecars import FOLDER, sidecar

#: How Snakemake's archive of the code begins, which it puts beside the results.
CODE = "snakemake-workflow-sources."


def adapt(workflow: Any, results: str) -> None:
    """Change the objects of the default storage provider, if there is one, in this process."""
    provider = workflow.storage_settings.default_storage_provider
    if provider is None:
        return
    plugin = StoragePluginRegistry().get_plugin(provider)
    module: Any = sys.modules[plugin.storage_provider.__module__]
    stock = getattr(module.StorageObject, "grace_stock", module.StorageObject)
    attributes = {
        "grace_stock": stock,
        "grace_prefix": _prefix(workflow),
        "grace_results": PurePosixPath(results),
        "grace_pod": bool(workflow.remote_exec),
    }
    module.StorageObject = type("StorageObject", (_Adapted, stock), attributes)


def plain_name(file: Any) -> str:
    """The name of a rule's file as the rule writes it, wherever the file is stored."""
    stored = getattr(file, "flags", {}).get("storage_object")
    if stored is None:
        return str(file)
    return str(stored.query).removeprefix(_prefix(file.rule.workflow))


def _prefix(workflow: Any) -> str:
    return str(workflow.storage_settings.default_storage_prefix).rstrip("/") + "/"


class _Adapted:
    """Goes before a plugin's class."""

    grace_prefix: str
    grace_results: PurePosixPath
    grace_pod: bool
    query: str
    provider: Any
    keep_local: bool

    def __post_init__(self) -> None:
        """Also: no copy of a project's file may be cleaned up, because it is the file."""
        super().__post_init__()  # type: ignore[misc]
        if self._source() is not None:
            self.keep_local = True

    def local_path(self) -> Path:
        """Where the file is in this process's folder."""
        name = self._name()
        if name is not None and (self.grace_pod or self._source() is not None):
            return name
        elsewhere: Path = super().local_path()  # type: ignore[misc]
        return elsewhere

    async def inventory(self, cache: Any) -> None:
        """What the plugin knows of its objects without asking for each."""
        if self._source() is None:
            await super().inventory(cache)  # type: ignore[misc]

    def exists(self) -> bool:
        """Whether the file can be had."""
        source = self._source()
        return bool(super().exists() if source is None else source.exists())  # type: ignore[misc]

    def mtime(self) -> float:
        """When it was written, in seconds since 1970."""
        source = self._source()
        found = super().mtime() if source is None else source.stat().st_mtime  # type: ignore[misc]
        return float(found)

    def size(self) -> int:
        """Bytes."""
        source = self._source()
        return int(super().size() if source is None else source.stat().st_size)  # type: ignore[misc]

    def store_object(self) -> None:
        """Store the file, then its record."""
        if self._source() is not None:
            return
        super().store_object()  # type: ignore[misc]
        record = self._record()
        if record is not None and record.local_path().exists():
            record.store_object()

    def retrieve_object(self) -> None:
        """Retrieve the file, and its record if it has one."""
        if self._source() is not None:
            return
        super().retrieve_object()  # type: ignore[misc]
        record = self._record()
        if record is not None and record.exists():
            record.local_path().parent.mkdir(parents=True, exist_ok=True)
            record.retrieve_object()

    def _name(self) -> Path | None:
        """Its name in a local run; None for what is not the workflow's."""
        if not self.query.startswith(self.grace_prefix):
            return None
        return Path(self.query.removeprefix(self.grace_prefix))

    def _source(self) -> Path | None:
        """Its name, if it is a file of the project and no result."""
        name = self._name()
        if name is None or name.is_relative_to(self.grace_results) or name.name.startswith(CODE):
            return None
        return name

    def _record(self) -> Any:
        """The object that holds its record; None for what has none."""
        name = self._name()
        if name is None or self._source() is not None or name.parent.name == FOLDER:
            return None
        return self.provider.object(f"{self.grace_prefix}{sidecar(name).as_posix()}")
