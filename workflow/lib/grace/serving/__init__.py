"""The serving lease: jobs share one model server, and none outlives its use.

    with serving.lease(model_key, entry, serving_config, journal_dir=..., log_dir=...) as lease:
        base_url = lease.wait_ready()

The first holder on a machine starts the server through a supervisor process; later holders of
the same configuration share it. `lease_server` is the same for any server that a `ServerSpec`
describes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from grace.serving.holder import Lease, lease_server
from grace.serving.spec import ServerSpec

if TYPE_CHECKING:
    from grace.contents import Contents
    from grace.settings.config import ModelEntry, ServingConfig

__all__ = ["Lease", "ServerSpec", "lease", "lease_server"]


@contextmanager
def lease(
    model_key: str,
    entry: ModelEntry,
    serving: ServingConfig,
    *,
    journal_dir: Path,
    log_dir: Path,
    root: Path = Path(),
    workflow_pid: int | None = None,
    contents: Contents | None = None,
) -> Iterator[Lease]:
    """Hold a model's vLLM server; see `lease_server`.

    Folders in `entry` and `serving` are below `root`, the current folder by default. `contents`
    knows the digests of the model's files, if they were taken before.

    Raises `EngineError` at once where vLLM or a GPU is missing or the fixed port is taken, and
    with the server's last log lines where it does not start.
    """
    # Not at the top: supervisor and warden import this package too, and are to stay small.
    from grace.serving.vllm_server import server_spec

    spec = server_spec(model_key, entry, serving, root, contents)
    with lease_server(
        spec, journal_dir=journal_dir, log_dir=log_dir, workflow_pid=workflow_pid
    ) as held:
        yield held
