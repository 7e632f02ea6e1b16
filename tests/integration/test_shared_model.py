"""A model that jobs share: the same bits as alone, loaded once, and gone with the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from waiting import PATIENCE_S, wait_until

from grace.engines.base import Decoding, GenerationRequest, ScoreRequest
from grace.engines.opening import Runtime, runtime_of
from grace.engines.transformers.model import TransformersEngine
from grace.engines.transformers.shared import SharedEngine
from grace.errors import EngineError
from grace.runs.process_id import ProcessId
from grace.runs.startup import MARK
from grace.serving.processes import running
from grace.settings.config import ModelEntry

ROOT = Path(__file__).parents[2]
SHARED = (7, 11, 13, 17, 19)
PROMPTS = [(*SHARED, number, 23) for number in range(30, 42)]


def entry(name: str = "resources/models/pico") -> ModelEntry:
    return ModelEntry(name=name, engine="transformers", gpus=0)


@pytest.fixture
def run(monkeypatch) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a workflow's run, of which this one is a job."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    known = ProcessId.of(psutil.Process(process.pid))
    monkeypatch.setenv(MARK, f"{known.pid} {known.started} somewhere")
    yield process
    process.communicate()


def runtime(folder: Path, **changes: Any) -> Runtime:
    settings: dict[str, Any] = {
        "requests": {"concurrency": 4},
        "scoring": {},
        "serving": {},
        "root": str(ROOT),
        "journal_dir": str(folder / "journal"),
        "journal_timeout_s": 5,
        "log_dir": str(folder / "logs"),
        "threads": 1,
    }
    return runtime_of(settings | changes)


def generations() -> list[GenerationRequest]:
    decoding = Decoding(temperature=0.7, top_p=1.0, max_tokens=6)
    return [
        GenerationRequest(str(number), (), ids, decoding, seed=number)
        for number, ids in enumerate(PROMPTS)
    ]


def queries() -> list[ScoreRequest]:
    options = ((41, 42, 43), (41, 44), (45,))
    return [
        ScoreRequest(str(number), ids, options, (2,), group=str(number // 2))
        for number, ids in enumerate(PROMPTS)
    ]


def all_of(engine: Any) -> list[Any]:
    """What an engine answers, with a call between the values, as the journal makes one."""
    texts = {one.key: (one.text, one.usage) for one in engine.generate(generations())}
    scores = engine.score(queries(), {"3", "4"})
    first = next(scores)
    facts = engine.describe()
    again = sorted(engine.reread(queries()[:3]), key=lambda one: one.score.key)
    return [texts, {one.key: one for one in (first, *scores)}, facts, again]


def states(folder: Path) -> list[dict[str, Any]]:
    """What supervisors say of their processes."""
    return [json.loads(path.read_text()) for path in folder.glob("journal/serving/*/*/state.json")]


def services(folder: Path) -> list[psutil.Process]:
    """Processes that hold a model for jobs of this folder, or watch over one that does."""
    states = [
        json.loads(path.read_text()) for path in folder.glob("journal/serving/*/*/state.json")
    ]
    found = []
    for state in states:
        if ProcessId(**state["supervisor"]).alive():
            watching = psutil.Process(state["supervisor"]["pid"])
            found += [watching, *watching.children(recursive=True)]
    return found


def computing(folder: Path) -> psutil.Process:
    return services(folder)[-1]


def open_shared(settings: Runtime, model: ModelEntry | None = None) -> SharedEngine:
    model = model or entry()
    found = model.engine_spec.open("pico", model, settings)
    assert isinstance(found, SharedEngine)
    return found


def test_two_jobs_have_one_process_and_the_bits_of_processes_of_their_own(tmp_path, run):
    settings = runtime(tmp_path)
    with open_shared(settings) as engine:
        first = all_of(engine)
        process, used = computing(tmp_path), engine.cpu_time_s()
        folder = Path(states(tmp_path)[0]["folder"])
        assert folder.stat().st_mode & 0o777 == 0o700
    with open_shared(settings) as engine:
        second = all_of(engine)
        assert computing(tmp_path) == process
        assert engine.cpu_time_s() - used < used / 2, "the model was loaded once"
    alone = TransformersEngine(
        "pico", entry(), requests=settings.requests, scoring=settings.scoring, root=ROOT, threads=1
    )
    with alone as engine:
        assert first == second == all_of(engine)
    # A job that is killed leaves the model to the others, the last one to the run.
    left = services(tmp_path)
    run.communicate()
    wait_until(lambda: not any(map(running, left)), PATIENCE_S, "the run's end ends all of them")
    wait_until(lambda: not folder.exists(), PATIENCE_S, "and its socket")


def test_a_process_that_is_killed_ends_its_job_plainly_and_serves_the_next(tmp_path, run):
    settings = runtime(tmp_path)
    with open_shared(settings) as engine:
        scores = engine.score(queries())
        next(scores)
        killed = computing(tmp_path)
        killed.kill()
        with pytest.raises(
            EngineError, match="model 'pico': the process that computes with it has"
        ):
            list(scores)
    with open_shared(settings) as engine:
        assert len(list(engine.score(queries()))) == len(PROMPTS)
        assert computing(tmp_path) != killed


def test_a_model_that_cannot_be_loaded_is_the_jobs_own_error(tmp_path, run):
    root = tmp_path / "project"
    shutil.copytree(ROOT / "resources/models/pico", root / "model")
    config = root / "model/config.json"
    config.write_text(config.read_text().replace('"model_type": "', '"model_type": "un'))
    settings = runtime(tmp_path, root=str(root))
    with pytest.raises(EngineError, match="model 'pico': 'model' cannot be loaded: "):
        open_shared(settings, entry("model")).__enter__()
    left = services(tmp_path)
    run.communicate()
    wait_until(lambda: not any(map(running, left)), PATIENCE_S, "nothing is left")


def test_without_a_run_a_model_is_loaded_in_the_process_that_asks(tmp_path, monkeypatch):
    monkeypatch.delenv(MARK, raising=False)
    found = entry().engine_spec.open("pico", entry(), runtime(tmp_path))
    with found:
        assert isinstance(found, TransformersEngine)
