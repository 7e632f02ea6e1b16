"""The engine `transformers` as jobs use it: its model is in a process that the jobs of a run share.

A job itself imports neither torch nor a model. The first that asks starts the process through the
serving lease (`grace.serving`), as jobs share a server of vLLM; what becomes of it when a job or
the run ends, or is killed, is the lease's to settle.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from grace import modules
from grace.engines.base import Generation, GenerationRequest, Score, ScoreRequest
from grace.engines.transformers import service
from grace.errors import EngineError
from grace.models.identity import ModelIdentity
from grace.serving.addresses import socket_of
from grace.serving.calls import Client, ServiceEndedError, answers
from grace.serving.lease import Lease, lease_server
from grace.serving.processes import last_lines
from grace.serving.spec import SOCKET, ServerSpec
from grace.source_code import LIBRARY, joined_digest

if TYPE_CHECKING:
    from grace.engines.opening import Runtime
    from grace.engines.rereading import Rereading
    from grace.settings.config import ModelEntry

_MAIN = (
    f"import sys; sys.path.insert(0, sys.argv.pop(1)); from {service.__name__} import main; main()"
)
#: Seconds in which the supervisor of a process that was killed notices.
_NOTICED_S = 10.0
_POLL_S = 0.1


class SharedEngine:
    """An engine in a process that other jobs use, too. See `grace.engines.base.Engine`.

    Its process is there, and the model loaded, while this is entered. Raises `EngineError` where
    either cannot be, and where the process ends meanwhile.
    """

    def __init__(self, model_key: str, entry: ModelEntry, version: str, runtime: Runtime) -> None:
        self._model_key = model_key
        self._entry = entry
        self._version = version
        self._runtime = runtime
        self._stack = ExitStack()
        self._lease: Lease | None = None
        self._client: Client | None = None

    def __enter__(self) -> Self:
        runtime = self._runtime
        spec = service_spec(self._model_key, self._entry, self._version, runtime)
        with ExitStack() as stack:
            self._lease = stack.enter_context(
                lease_server(spec, journal_dir=runtime.journal_dir, log_dir=runtime.log_dir)
            )
            arguments = {
                "model_key": self._model_key,
                "entry": self._entry.model_dump(),
                "requests": runtime.requests.model_dump(),
                "scoring": runtime.scoring.model_dump(),
                "root": str(runtime.root.absolute()),
                "threads": runtime.threads,
            }
            with self._explained():
                self._client = Client(self._address(self._lease), arguments)
            stack.callback(self._client.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @staticmethod
    def _address(lease: Lease) -> Path:
        """The process's socket; of one that was just killed, its successor's."""
        deadline = time.monotonic() + _NOTICED_S
        while not answers(address := socket_of(lease.wait_ready())):
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        return address

    def describe(self) -> dict[str, Any]:
        """As `TransformersEngine.describe`."""
        found: dict[str, Any] = self._call("describe")
        return found

    def cpu_time_s(self) -> float:
        """Seconds of processor time that the shared process has taken so far."""
        return float(self._call("cpu_time_s"))

    def generate(self, requests: Iterable[GenerationRequest]) -> Iterator[Generation]:
        """As `TransformersEngine.generate`."""
        return self._iterate("generate", list(requests))

    def score(
        self, requests: Iterable[ScoreRequest], known: Container[str] = frozenset()
    ) -> Iterator[Score]:
        """As `TransformersEngine.score`."""
        wanted = list(requests)
        return self._iterate("score", wanted, {one.key for one in wanted if one.key in known})

    def reread(self, requests: Sequence[ScoreRequest]) -> Iterator[Rereading]:
        """As `TransformersEngine.reread`."""
        return self._iterate("reread", list(requests))

    def _call(self, method: str) -> Any:
        assert self._client is not None
        with self._explained():
            return self._client.call(method)

    def _iterate(self, method: str, *arguments: Any) -> Iterator[Any]:
        assert self._client is not None
        values = self._client.iterate(method, *arguments)
        while True:
            with self._explained():
                found = next(values, None)
            if found is None:
                return
            yield found

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise `EngineError` where the process ends: what it wrote last, and what to do."""
        try:
            yield
        except ServiceEndedError:
            assert self._lease is not None
            log = self._lease.log_file
            lines = "\n  ".join(last_lines(log))
            raise EngineError(
                f"model '{self._model_key}': the process that computes with it has ended. Without"
                " an error in its last lines it was killed, perhaps because there was too little"
                " memory. Run the same command again: what was answered is kept. Last lines of"
                f" {log}:\n  {lines}"
            ) from None


def service_spec(model_key: str, entry: ModelEntry, version: str, runtime: Runtime) -> ServerSpec:
    """The process of a model, for the lease: the same for the same files, versions and code."""
    identity = ModelIdentity(entry, (), runtime.root, runtime.contents)
    folder = "engines/transformers"
    code = modules.library(f"{folder}/service.py", f"{folder}/engine.py", f"{folder}/scorer.py")
    return ServerSpec(
        name=model_key,
        command=(sys.executable, "-P", "-c", _MAIN, str(LIBRARY.parent), SOCKET),
        idle_s=runtime.serving.idle_s,
        start_timeout_s=runtime.serving.start_timeout_s,
        identity={
            "model": json.dumps(identity.server(version), sort_keys=True),
            "root": str(runtime.root.absolute()),
            "code": joined_digest(code),
            "devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        },
    )
