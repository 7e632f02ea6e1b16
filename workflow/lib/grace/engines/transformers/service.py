"""The process that holds a model for the jobs of a run: loaded once, by the first that asks.

`main` listens on the Unix socket that its argument names. Each job that connects has an engine of
its own around the one model, so that its answers are those of a process of its own.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from grace.engines.base import Engine
from grace.engines.threads import settle_threads
from grace.engines.transformers.loading import LoadedModel
from grace.engines.transformers.model import TransformersEngine, load
from grace.serving.calls import listen, serve
from grace.settings.config import ModelEntry, RequestsConfig, ScoringConfig

#: What a job may call.
METHODS = frozenset({"cpu_time_s", "describe", "generate", "reread", "score"})


class HeldEngine(TransformersEngine):
    """An engine that tells how long its process has computed."""

    def cpu_time_s(self) -> float:
        """Seconds of processor time of this process so far."""
        return time.process_time()


class Service:
    """The model that was asked for last; all jobs of a run ask for the same."""

    def __init__(self) -> None:
        self._asked: tuple[str, dict[str, Any], Path] | None = None
        self._loaded: LoadedModel | None = None

    @contextmanager
    def opened(self, arguments: Mapping[str, Any]) -> Iterator[Engine]:
        """An engine as `grace.engines.transformers.shared` asks for it. Raises `EngineError`."""
        key, root = str(arguments["model_key"]), Path(arguments["root"])
        entry = ModelEntry.model_validate(arguments["entry"])
        with HeldEngine(
            key,
            entry,
            requests=RequestsConfig.model_validate(arguments["requests"]),
            scoring=ScoringConfig.model_validate(arguments["scoring"]),
            root=root,
            threads=int(arguments["threads"]),
            loaded=self._model(key, entry, root),
        ) as engine:
            gc.freeze()  # libraries and the model stay: they need not be searched for garbage
            yield engine

    def _model(self, key: str, entry: ModelEntry, root: Path) -> LoadedModel:
        asked = (key, entry.model_dump(), root)
        if self._loaded is None or asked != self._asked:
            self._asked, self._loaded = None, None  # the former one first, for its memory
            self._loaded, self._asked = load(key, entry, root), asked
        return self._loaded


def main() -> None:
    """Serve on the socket that the first argument names."""
    settle_threads()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    serve(listen(Path(sys.argv[1])), Service().opened, METHODS)
