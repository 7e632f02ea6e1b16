"""A model that a step of training asks: through the journal, as experiments ask theirs.

An answer that the journal holds is not asked again; the engine is opened at the first that it does
not hold, and with vLLM jobs share one server (`grace.serving.lease`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from grace.engines.answer_keys import AnswerKeys
from grace.engines.base import Engine
from grace.engines.journaled import JournaledEngine
from grace.engines.opening import engine_version, opened, runtime_of
from grace.engines.threads import settle_threads
from grace.errors import ConfigError
from grace.experiments.sentinels import watched
from grace.journal import Journal
from grace.models.identity import Experiment, ModelIdentity
from grace.posttraining.spending import Spending
from grace.posttraining.token_rows import TrainingTokenizer
from grace.provenance import environment
from grace.settings.config import ModelEntry

#: Time-outs, folders and entry of the model, as the rules pass them.
JobSettings = Mapping[str, Any]


@dataclass
class AskedModel:
    """An open model. `facts` grow while it is asked, and belong into the job's record."""

    tokenizer: TrainingTokenizer
    engine: JournaledEngine
    seed_text: str
    facts: dict[str, Any] = field(default_factory=dict)


def tokenizer_for(model: Mapping[str, Any], settings: JobSettings) -> TrainingTokenizer:
    """The tokeniser of a base or checkpoint, with the hub's commit pinned. Raises `GraceError`."""
    runtime = runtime_of(dict(settings))
    entry = ModelEntry.model_validate(settings["entry"])
    identity = ModelIdentity(entry, runtime.serving.extra_args, runtime.root, runtime.contents)
    return TrainingTokenizer(model["key"], identity.pinned(), runtime.root)


@contextmanager
def asked(
    model: Mapping[str, Any], settings: JobSettings, experiment: Experiment, label: str
) -> Iterator[AskedModel]:
    """Open a model for a job, and note what it takes once it is needed.

    `model` is `Project.training_config`'s, `settings` what cannot change an answer. A base is
    given the sentinels first. Raises `GraceError`, a `BudgetError` before anything is loaded.
    """
    settle_threads()
    entry = ModelEntry.model_validate(settings["entry"])
    runtime = runtime_of(dict(settings))
    key = model["key"]
    identity = ModelIdentity(entry, runtime.serving.extra_args, runtime.root, runtime.contents)
    identity.check_unchanged(dict(model), "since this run was planned")
    identity.check_adapter(key)
    version = engine_version(entry, runtime)
    pinned = identity.pinned()
    tokenizer = TrainingTokenizer(key, pinned, runtime.root)
    facts: dict[str, Any] = {
        "started": environment.now(),
        "hardware": environment.hardware(),
        "versions": environment.versions(),
        **environment.git_state(runtime.root),
    }

    def open_within_budget() -> AbstractContextManager[Engine]:
        spending.begin()
        return opened(key, pinned, runtime, version)

    with (
        Spending(settings) as spending,
        Journal(runtime.journal_dir / "journal", timeout_s=runtime.journal_timeout_s) as journal,
        JournaledEngine(
            open_within_budget,
            journal,
            keys=AnswerKeys(entry.engine, experiment, identity.answers(experiment, version)),
            session=facts,
            label=label,
        ) as engine,
    ):
        found = AskedModel(tokenizer, engine, label)
        sentinels = watched(tokenizer, engine.sentinels, label) if entry.adapter is None else None
        yield found
        spending.asked(engine.own_share)
        described = engine.describe() or {"engine": entry.engine, "version": version}
        adapter = identity.adapter_facts(key)
        found.facts |= {
            "hardware": facts["hardware"],
            "model": {
                "key": key,
                "name": entry.name,
                "weights": identity.output_config()["weights"],
                **({"adapter": adapter} if adapter is not None else {}),
            },
            "tokenizer": tokenizer.digests(),
            "identity": identity.values(version),
            "engine": {
                **described,
                "answered_by": engine.sessions(),
                **({"sentinels": sentinels} if sentinels is not None else {}),
            },
        }


def refuse_all_failed(errors: list[str | None], what: str) -> None:
    """Raise `ConfigError` where every request failed, with the first reason."""
    if errors and all(error is not None for error in errors):
        raise ConfigError(f"{what}: all {len(errors)} requests failed. The first: {errors[0]}")
