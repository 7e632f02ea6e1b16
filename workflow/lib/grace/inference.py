"""An inference job, whole: from a cell and a stimuli file to records and their provenance."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grace import provenance
from grace.chat import ChatTokenizer, tokenizer_of
from grace.config import ModelEntry, RequestsConfig, ScoringConfig, ServingConfig
from grace.digests import file_digest
from grace.engines import Runtime, open_engine
from grace.engines.base import Decoding, Engine
from grace.engines.journaled import JournaledEngine
from grace.errors import ConfigError
from grace.experiments import Asked, Run, asked
from grace.generation import run_generation
from grace.journal import Journal
from grace.measurement import run_scoring
from grace.modules import engine_code
from grace.prompts import PromptSet
from grace.records import write_json, write_records
from grace.stimuli import read_trials
from grace.studies import STUDIES


def runtime_of(settings: dict[str, Any]) -> Runtime:
    """The settings of this machine and run that the rules pass as `runtime`."""
    return Runtime(
        requests=RequestsConfig.model_validate(settings["requests"]),
        scoring=ScoringConfig.model_validate(settings["scoring"]),
        serving=ServingConfig.model_validate(settings["serving"]),
        root=Path(settings["root"]),
        journal_dir=Path(settings["journal_dir"]),
        journal_timeout_s=settings["journal_timeout_s"],
        log_dir=Path(settings["log_dir"]),
        threads=settings["threads"],
    )


def infer(
    stimuli: Path, cell: dict[str, Any], settings: dict[str, Any], code: str,
    records_path: Path, provenance_path: Path,
) -> dict[str, Any]:  # fmt: skip
    """Run one experiment and write its records, then the facts of the run.

    `cell` is what `Project.experiment_cell` gives, `settings` what cannot change an answer. Gives
    what the records were made from beside the stimuli. Raises `GraceError`.
    """
    # Threads that spin while they wait slow everything else on a shared machine down, themselves
    # included; read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    started = provenance.now()
    model_key = cell["model"]["key"]
    entry = ModelEntry.model_validate(settings["entry"])
    runtime = runtime_of(settings)
    study = STUDIES[cell["study"]]
    run = Run(
        model_key=model_key,
        model_name=entry.name,
        study=study,
        experiment=cell["experiment"],
        replication=cell["replication"],
        base_seed=cell["base_seed"],
        shuffle=cell["shuffle"],
    )
    wordings = [
        PromptSet(runtime.root / "config" / "prompts" / variant) for variant in cell["prompts"]
    ]
    items = asked(run, read_trials(stimuli, study, cell["limit"]), wordings)
    tokenizer = tokenizer_of(model_key, entry, runtime.root)
    facts = {
        "started": started,
        "code": code,
        "hardware": provenance.hardware(),
        "versions": provenance.versions(),
        **provenance.git_state(runtime.root),
    }
    origin = _origin(cell, entry, run, wordings, tokenizer, runtime.root)
    # First the journal: where it cannot be written, no model need be loaded.
    with (
        Journal(runtime.journal_dir / "journal", timeout_s=runtime.journal_timeout_s) as journal,
        open_engine(model_key, entry, runtime) as opened,
    ):
        engine = JournaledEngine(
            opened,
            journal,
            identity=_identity(cell, opened),
            session={**facts, "engine": opened.describe()},
            label=f"{model_key}/replication-{run.replication}/{run.label}",
        )
        gc.freeze()  # libraries and the model stay: they need not be searched for garbage
        records = _records(run, items, tokenizer, engine, cell)
        write_records(records_path, records)
        description = engine.describe()
        sessions = engine.sessions()
        answer_keys = engine.answer_keys()
    if entry.engine != "endpoint" and not (runtime.root / entry.name).is_dir():
        # Only now: a first run fetches them.
        origin["model"] |= provenance.hub_files(entry.name, entry.revision)
    write_json(
        provenance_path,
        {
            "cell": cell,
            **facts,
            "completed": provenance.now(),
            "requests": len(items),
            "engine": description,
            "gpus": entry.gpus,
            **origin,
            "answers": sessions,
            "answer_keys": answer_keys,
        },
    )
    return {"hardware": facts["hardware"], "engine": description, **origin}


def _origin(
    cell: dict[str, Any], entry: ModelEntry, run: Run, wordings: list[PromptSet],
    tokenizer: ChatTokenizer | None, root: Path,
) -> dict[str, Any]:  # fmt: skip
    """Model, tokeniser, seeds and the files read, by path from the project's root."""
    folder = root / entry.name
    files = {
        path.relative_to(root).as_posix(): file_digest(path)
        for wording in wordings
        for path in wording.files(run.study.templates[run.experiment])
    }
    model: dict[str, Any] = {"name": entry.name, "weights": cell["model"]["weights"]}
    if folder.is_dir():
        for name, found in provenance.model_files(folder).items():
            files[(Path(entry.name) / name).as_posix()] = found
    return {
        "model": model,
        "tokenizer": tokenizer.digests() if tokenizer is not None else None,
        "seeds": {"replication": run.base_seed + run.replication, "experiment": run.seed},
        "files": files,
    }


def _identity(cell: dict[str, Any], engine: Engine) -> dict[str, Any]:
    """What determines an answer beside the request."""
    facts = engine.describe()
    name = facts["engine"]
    return {
        "model": {field: value for field, value in cell["model"].items() if field != "key"},
        "engine": name,
        "version": facts["version"],
        "code": engine_code(name, cell["experiment"]),
    }


def _records(
    run: Run, items: list[Asked], tokenizer: ChatTokenizer | None, engine: Any,
    cell: dict[str, Any],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    if run.experiment == "exp1":
        decoding = Decoding(**cell["decoding"])
        return run_generation(run, items, tokenizer, engine, decoding)
    if tokenizer is None:
        raise ConfigError(
            f"config/models.yaml: experiment 2 needs the tokeniser of '{run.model_key}'. Name it"
            " in `tokenizer`, or leave experiment 2 out with `experiments: [exp1]`."
        )
    return run_scoring(run, items, tokenizer, engine, cell["surface_forms"])
