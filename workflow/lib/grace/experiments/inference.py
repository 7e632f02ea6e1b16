"""An inference job, whole: from a stimuli file to records and their provenance."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from grace.digests import file_digest
from grace.engines.answer_keys import AnswerKeys
from grace.engines.base import Decoding, Engine
from grace.engines.former_keys import FormerKeys
from grace.engines.journaled import JournaledEngine
from grace.engines.opening import engine_version, opened, runtime_of
from grace.engines.threads import settle_threads
from grace.errors import ConfigError
from grace.experiments import preflight
from grace.experiments.generation import run_generation
from grace.experiments.measurement import SecondReadings, run_scoring
from grace.experiments.rereading import Rereader
from grace.experiments.sentinels import watched
from grace.experiments.trials import Run, TrialPrompt, trial_prompts
from grace.journal import Journal
from grace.models.chat import ChatTokenizer, tokenizer_of
from grace.models.identity import ModelIdentity
from grace.models.precision import precision_of
from grace.models.reasoning import ReasoningTokenizer
from grace.places import named
from grace.prompts.variants import PromptSet
from grace.provenance import environment
from grace.provenance.gpu_use import GpuSampler
from grace.results.records import write_json, write_records
from grace.settings.config import ModelEntry
from grace.settings.output_configs import ExperimentConfig, MeasurementConfig, SamplingConfig
from grace.studies.catalogue import study_of_job
from grace.studies.stimuli import read_trials


def infer(
    stimuli: Path, config: ExperimentConfig, settings: dict[str, Any], code: str,
    records_path: Path, provenance_path: Path,
) -> dict[str, Any]:  # fmt: skip
    """Run one experiment and write its records, then the facts of the run.

    `config` is what `Outputs.experiment` gives, `settings` what cannot change an answer. The
    model is loaded, or its server held, at the first answer that the journal does not hold. Gives
    what the records were made from beside the stimuli. Raises `GraceError`.
    """
    settle_threads()
    started = environment.now()
    model_key = config.model["key"]
    entry = ModelEntry.model_validate(settings["entry"])
    runtime = runtime_of(settings)
    study = study_of_job(settings["studies"][config.study])
    run = Run(
        model_key=model_key,
        model_name=entry.name,
        study=study,
        experiment=config.experiment,
        replication=config.replication,
        base_seed=config.base_seed,
        shuffle=config.shuffle,
    )
    trials = read_trials(stimuli, study, config.limit)
    variants = study.variants(config.prompts, trials, entry.wording)
    items = trial_prompts(run, trials, variants)
    identity = ModelIdentity(entry, runtime.serving.extra_args, runtime.root, runtime.contents)
    identity.check_unchanged(config.model, "since this run was planned")
    version = engine_version(entry, runtime)
    keys = AnswerKeys(entry.engine, run.experiment, identity.answers(run.experiment, version))
    pinned = identity.pinned()
    # The prompts or the settings may be others than when the plan was made.
    preflight.check(config.model, pinned, settings["wanted"], runtime)
    tokenizer = tokenizer_of(model_key, pinned, runtime.root)
    hardware = environment.hardware()
    facts = {
        "started": started,
        "code": code,
        "hardware": hardware,
        "versions": environment.versions(),
        **environment.git_state(runtime.root),
    }
    origin = _origin(entry, identity, version, run, variants, tokenizer, runtime.root)
    label = f"{model_key}/replication-{run.replication}/{run.label}"
    gpu_use = None if entry.engine_spec.is_remote else GpuSampler()
    with (
        # First the journal: where it cannot be written, no model need be loaded.
        Journal(runtime.journal_dir / "journal", timeout_s=runtime.journal_timeout_s) as journal,
        JournaledEngine(
            lambda: _unchanged(
                opened(model_key, pinned, runtime, version), identity, config, hardware, gpu_use
            ),
            journal,
            keys=keys,
            session=facts,
            label=label,
            former=FormerKeys(
                entry,
                run.experiment,
                version,
                server_arguments=runtime.serving.extra_args,
                root=runtime.root,
                commit=identity.model.get("commit"),
            ),
        ) as engine,
    ):
        sentinels = None
        if entry.prompting == "completion" and tokenizer is not None:
            sentinels = watched(tokenizer, engine.sentinels, label)
        rereader = Rereader(
            seed=run.base_seed,
            share=runtime.scoring.reread,
            precision=None if entry.engine_spec.is_remote else precision_of(pinned, runtime.root),
            elsewhere=partial(
                preflight.queries_elsewhere, settings["wanted"], entry.wording, config.study
            ),
        )
        records = _records(run, items, tokenizer, engine, config, entry, rereader)
        write_records(records_path, records)
        description = engine.describe() or {"engine": entry.engine, "version": version}
        sessions = engine.sessions()
        answer_keys = engine.answer_keys()
        asked_engine = engine.opened
        timing = engine.timing()
    declared = {variant.variant: variant.facts() for variant in variants}
    wordings = {name: found for name, found in declared.items() if found}
    examples = {variant.variant: variant.few_shot() for variant in variants}
    few_shot = {name: found for name, found in examples.items() if found}
    # Only now: a first run fetches them.
    origin["model"] |= identity.hub_files()
    if (adapter := identity.adapter_facts(model_key)) is not None:
        origin["model"]["adapter"] = adapter
    write_json(
        provenance_path,
        {
            "output_config": config.model_dump(),
            **facts,
            "completed": environment.now(),
            "requests": len(items),
            "engine": description,
            "engine_opened": asked_engine,
            **({"timing": timing} if timing is not None else {}),
            "gpu_use": gpu_use.facts() if gpu_use is not None else None,
            "gpus": entry.engine_spec.gpus(entry),
            **({"wordings": wordings} if wordings else {}),
            **({"few_shot": few_shot} if few_shot else {}),
            **({"sentinels": sentinels} if sentinels is not None else {}),
            **({"rereadings": rereader.facts()} if run.experiment == "exp2" else {}),
            **_reasoning(entry, tokenizer),
            **origin,
            "answers": sessions,
            "answer_keys": answer_keys,
        },
    )
    return {"hardware": hardware, "engine": description, **origin}


def _reasoning(entry: ModelEntry, tokenizer: ChatTokenizer | None) -> dict[str, Any]:
    """How the model was asked to reason; nothing of one that is not."""
    if isinstance(tokenizer, ReasoningTokenizer):
        return {"reasoning": tokenizer.facts()}
    return {"reasoning": entry.reasoning.model_dump()} if entry.reasoning else {}


@contextmanager
def _unchanged(
    opening: AbstractContextManager[Engine],
    identity: ModelIdentity,
    config: ExperimentConfig,
    hardware: dict[str, Any],
    gpu_use: GpuSampler | None,
) -> Iterator[Engine]:
    """An engine whose model, when it has been loaded, is what it was when its keys were made.

    Adds to `hardware`, before the first answer, what is known of a pod only a while after its
    start. Raises `ConfigError` where it is not, `EngineError` for damaged files of the hub.
    """
    identity.hub_files()  # those that are here; the first run fetches them
    with opening as engine, gpu_use or nullcontext():
        identity.check_unchanged(config.model, "while it was loaded")
        identity.hub_files()
        hardware |= environment.image_facts()
        # A base that was fetched only now has its digests now.
        identity.check_adapter(config.model["key"])
        gc.freeze()  # libraries and the model stay: they need not be searched for garbage
        yield engine


def _origin(
    entry: ModelEntry, identity: ModelIdentity, version: str | None, run: Run,
    variants: list[PromptSet], tokenizer: ChatTokenizer | None, root: Path,
) -> dict[str, Any]:  # fmt: skip
    """Model, tokeniser, seeds and the files read, by path from the project's root."""
    files = {
        named(path, root): file_digest(path)
        for variant in variants
        for path in variant.files(run.study.templates[run.experiment])
    }
    return {
        "model": {"name": entry.name, "weights": identity.output_config()["weights"]},
        "tokenizer": tokenizer.digests() if tokenizer is not None else None,
        # None reaches a model from the text of a question: such text is refused.
        "control_tokens": {
            "in_text": "refused",
            "known_by": "name" if tokenizer is None else "name and tokeniser",
        },
        "identity": identity.values(version),
        "seeds": {"replication": run.base_seed + run.replication, "experiment": run.seed},
        "files": files | identity.files(),
    }


def _records(
    run: Run, items: list[TrialPrompt], tokenizer: ChatTokenizer | None, engine: Any,
    config: ExperimentConfig, entry: ModelEntry, rereader: Rereader,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    if isinstance(config, SamplingConfig):
        decoding = Decoding(**config.decoding.model_dump())
        decoding = replace(decoding, max_tokens=entry.most_tokens(decoding.max_tokens))
        return run_generation(run, items, tokenizer, engine, decoding)
    if tokenizer is None:
        raise ConfigError(
            f"config/models.yaml: experiment 2 needs the tokeniser of '{run.model_key}'. Name it"
            " in `tokenizer`, or leave experiment 2 out with `experiments: [exp1]`."
        )
    assert isinstance(config, MeasurementConfig)
    second = SecondReadings(rereader, engine)
    forms = config.surface_forms
    thinking, terminators = config.thinking, config.terminators
    return run_scoring(run, items, tokenizer, engine, forms, thinking, second, terminators)
