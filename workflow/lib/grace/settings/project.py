"""A project as the workflow sees it: config, models, variants, trials, and the checks on them.

What each output depends on of it is in `grace.settings.outputs`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from grace.cluster.plan import placement
from grace.cluster.plan.placed import check_tag, entries_as_placed
from grace.cluster.plan.placement import Placement
from grace.cluster.plan.settings import Cluster, load_clusters, select_cluster
from grace.cluster.plan.training_places import TrainingPlace, training_places
from grace.contents import Contents
from grace.digests import digest
from grace.errors import ConfigError
from grace.experiments.preflight import check_continuations, check_tokenizers
from grace.models import adapter_base
from grace.models.adapters import FILES as ADAPTER_FILES
from grace.models.adapters import with_size
from grace.models.files import check_is_model, with_plain_folders
from grace.models.identity import PLACEMENT, ModelIdentity
from grace.pico.origin import origin
from grace.places import input_name, located, rule_input
from grace.posttraining.checkpoints import SHARED, Registry, needs
from grace.posttraining.recipe_runs import RecipeRun, recipe_runs
from grace.prompts import passed
from grace.prompts.checks import check_prompts
from grace.prompts.completion import CompletionPrompts
from grace.prompts.variants import PromptSet
from grace.runs.continuation import Failure, Replication, from_environment
from grace.settings.config import Config, ModelEntry, WordedAs
from grace.settings.extraction import resolved
from grace.settings.fields import folder
from grace.settings.folders import check_places
from grace.settings.loading import (
    check_lengths,
    language_models,
    load_config,
    load_models,
    select_models,
)
from grace.settings.reader import OwnReader, own_reader, reading_entry
from grace.settings.recipes import Recipe, load_recipes
from grace.steps import EXTRACTION
from grace.studies.catalogue import check_run, load_studies
from grace.studies.people_models import PeopleModel, listed_sources, sources_named
from grace.studies.stimuli import read_trials
from grace.studies.study import Study
from grace.studies.theory import (
    check_people,
    reference_inputs,
)
from grace.studies.trials import Trial

#: Settings of the config that cannot, either; a tag can where it changes a model's entry.
MACHINE = {
    "requests", "serving", "journal_dir", "journal_timeout_s", "gpus", "cluster", "name", "review",
    "gate", "note", "training",
}  # fmt: skip

#: What is said of people and of models of people that stand among language models.
PEOPLE = "people's own answers, no language model: every trial has the shares of its cell"
MODEL_OF_PEOPLE = (
    "a model of people, no language model: every trial has the probabilities of its cell"
)
#: What a pod gets: the tag of its GPUs, and the folder of the journal.
TAG_VARIABLE, JOURNAL_VARIABLE = "GRACE_GPU_TAG", "GRACE_JOURNAL_DIR"


class Project:
    """A checked configuration. Raises `GraceError` for whatever a user got wrong in it."""

    def __init__(
        self,
        root: Path,
        values: Mapping[str, Any],
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.root = root
        config = load_config(values, "config")
        if environment.get(JOURNAL_VARIABLE):
            config = config.model_copy(update={"journal_dir": _journal(environment)})
        known = load_models(located("config/models.yaml", root))
        #: All of config/recipes.yaml.
        self.recipes: dict[str, Recipe] = load_recipes(located("config/recipes.yaml", root))
        registry = Registry(known, self.recipes, config.results)
        self._checkpoints = registry.checkpoints
        known = registry.with_checkpoints(config.models)
        #: The configured studies by name, in the config's order.
        self.studies: dict[str, Study] = load_studies(config.studies, root, Path.cwd())
        #: People and models of people among `models`: by name their source in each study.
        self.people_models = sources_named(config.models, known, self.studies)
        self._named_models = list(config.models)
        config = language_models(config, self.people_models)
        self.config: Config = config
        #: How raw answers are read.
        self.extraction = resolved(config.extraction, known)
        self._reading_entry = reading_entry(self.extraction, known, root)
        #: What failed before the run went on without it.
        self.failed: list[Failure] = from_environment(environment)
        #: As they stand in models.yaml, before a GPU is chosen.
        self.entries: dict[str, ModelEntry] = {
            key: with_size(with_plain_folders(key, entry, root), root)
            for key, entry in select_models(
                config, known, listed_sources(self.studies), registry.checkpoints
            ).items()
        }
        self._tag = environment.get(TAG_VARIABLE)
        self._registry = registry
        self._check_tag()
        self.models = self._placed(self.entries)
        #: What the run has to train, by recipe, those that others build on first.
        self.trainings: dict[str, RecipeRun] = recipe_runs(
            registry, self.recipes, config, root, self._entry_here
        )
        check_run(self.studies, config, root)
        #: Whose prompts its models get: `wording` of their entries, each once, chats first.
        self.promptings: tuple[WordedAs, ...] = tuple(
            sorted({entry.wording for entry in self.models.values()})
        )
        self._variants = {
            prompting: {
                name: {variant: study.variant(variant, prompting) for variant in config.variants}
                for name, study in self.studies.items()
            }
            for prompting in self.promptings
        }

    @property
    def variants(self) -> dict[str, dict[str, PromptSet]]:
        """Prompts by study and variant: those of chats, where the run has a model that chats."""
        return self.variants_as(self.promptings[0])

    def variants_as(self, prompting: WordedAs) -> dict[str, dict[str, PromptSet]]:
        """The prompts of one of `promptings`, by study and variant."""
        return self._variants[prompting]

    def variants_of(self, model: str) -> dict[str, dict[str, PromptSet]]:
        """The prompts that a model is asked with, by study and variant."""
        return self.variants_as(self.models[model].wording)

    @cached_property
    def asked(self) -> dict[str, tuple[str, ...]]:
        """The experiments that are asked of each study: configured, and declared by it."""
        return {
            name: tuple(one for one in self.config.experiments if one in study.experiments)
            for name, study in self.studies.items()
        }

    @property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """What `grace.steps` asks of each study: its experiments, and whether a model reads it."""
        extracted = (EXTRACTION,) if self.extraction.asks_model else ()
        return {
            name: (*asked, *(extracted if "exp1" in asked else ()))
            for name, asked in self.asked.items()
        }

    @property
    def replications(self) -> list[Replication]:
        """Models and replications of the run; those that failed before it went on are left out."""
        failed = {failure.what for failure in self.failed}
        return [
            (model, index)
            for model in self.config.models
            for index in self.config.replication_indices
            if (model, index) not in failed
        ]

    @cached_property
    def clusters(self) -> dict[str, Cluster]:
        """All of config/clusters.yaml. Raises `ConfigError`."""
        return load_clusters(located("config/clusters.yaml", self.root))

    @cached_property
    def cluster(self) -> Cluster:
        """The configured cluster. Raises `ConfigError`."""
        return select_cluster(self.config.cluster, self.clusters)

    @cached_property
    def placements(self) -> dict[str, list[Placement]]:
        """Where each model may run, in order; empty for one that needs no GPU.

        Raises `ConfigError` where a model fits no tag.
        """
        return {model: self._choose(model, entry) for model, entry in self.entries.items()}

    def _choose(self, model: str, entry: ModelEntry) -> list[Placement]:
        return placement.choose(model, entry, self.cluster, self.config.gpus)

    @cached_property
    def reader(self) -> OwnReader | None:
        """The model that reads answers in jobs of the run; None where none of the run's own does.

        Raises `ConfigError` where it fits no tag.
        """
        key, entry = self.extraction.entry, self._reading_entry
        if key is None or entry is None:
            return None
        places = self._choose(key, entry)
        here = self._placed({key: entry})[key]
        contents = Contents(Path(self.config.journal_dir))
        return own_reader(key, here, places, self.config.serving, self.root, contents)

    def _placed(self, entries: Mapping[str, ModelEntry]) -> dict[str, ModelEntry]:
        """The models on the first of their tags, or on the pod's own.

        Without `gpus` and outside of a pod, they run as models.yaml says.
        """
        if not (self.config.gpus or self._tag):
            return dict(entries)
        places = {model: self._choose(model, entry) for model, entry in entries.items()}
        return entries_as_placed(entries, places, self._tag, self.root)

    def _check_tag(self) -> None:
        """Raise `ConfigError` where the pod's tag is none that a model of the run may run on."""
        if self._tag:
            read = [self.reader.placements] if self.reader else []
            names = self._registry.recipes_of(self.config.models)
            bases = [self.recipes[name].base for name in names]
            based = [self._choose(key, self._entry_of(key)) for key in bases]
            check_tag(self._tag, [*self.placements.values(), *read, *based], TAG_VARIABLE)

    def _entry_here(self, key: str) -> ModelEntry:
        """An entry that need not be among the run's models, as it would run in it."""
        if key in self.models:
            return self.models[key]
        entry = self._entry_of(key)
        return self._placed({key: entry})[key]

    def _entry_of(self, key: str) -> ModelEntry:
        """The same as models.yaml has it, before a GPU is chosen."""
        if key in self.entries:
            return self.entries[key]
        config = self.config.model_copy(update={"models": [key]})
        entry = select_models(config, self._registry.with_checkpoints([key]))[key]
        return with_size(with_plain_folders(key, entry, self.root), self.root)

    @cached_property
    def recipe_placements(self) -> dict[str, list[Placement]]:
        """Where each recipe's base is asked, in order; empty for one that needs no GPU.

        Raises `ConfigError` where it fits no tag.
        """
        return {
            name: self._choose(run.base, self._entry_of(run.base))
            for name, run in self.trainings.items()
        }

    @cached_property
    def training_places(self) -> dict[str, list[TrainingPlace]]:
        """Where each recipe is trained, in order; empty where its base needs no GPU.

        Raises `ConfigError` where a training fits no tag.
        """
        found = {}
        for name, run in self.trainings.items():
            tags = [one.tag for one in self.recipe_placements[name]]
            entry = self._entry_of(run.base)
            found[name] = (
                training_places(name, run.recipe, entry, self.cluster, tags, self.root)
                if tags
                else []
            )
        return found

    def training_config(self, key: str, entry: ModelEntry) -> dict[str, Any]:
        """As `model_configs`, of a model that a recipe asks or trains."""
        contents = Contents(Path(self.config.journal_dir))
        identity = ModelIdentity(entry, self.config.serving.extra_args, self.root, contents)
        return {"key": key, **identity.output_config()}

    def approvals_before(self, model: str) -> list[dict[str, str]]:
        """The decisions that must have been taken before a model is asked; none of most."""
        checkpoint = self._checkpoints.get(model)
        if checkpoint is None:
            return []
        found = self.trainings[checkpoint.recipe].gate_after(checkpoint.stage, checkpoint.seed)
        return [one.dump() for one in found]

    @property
    def checkpoints_wanted(self) -> set[str]:
        """The models of the run that have not failed, and those that their recipes begin with."""
        left = {model for model, _ in self.replications}
        return {*left, *(self.trainings[name].base for name in self._registry.recipes_of(left))}

    @property
    def recipes_wanted(self) -> dict[str, RecipeRun]:
        """The recipes of `trainings` that a model needs which has not failed."""
        names = self._registry.recipes_of(self.checkpoints_wanted)
        return {name: run for name, run in self.trainings.items() if name in names}

    def models_behind(self, recipe: str, step: str, seed: int, number: int = 0) -> set[str]:
        """The models of the run that cannot be without a recipe's step.

        It is of a seed if it has one, and of a round if it has a `number`. None where the step
        makes no checkpoint.
        """
        return {
            model
            for model in self.models
            if any(
                one.recipe == recipe
                and needs(one.stage, step, number)
                and (step in SHARED or one.seed == seed)
                for one in self._registry.chain(model)
            )
        }

    def adapter_files(self, model: str) -> list[str]:
        """What a recipe's checkpoint consists of; empty for any other model."""
        checkpoint = self._checkpoints.get(model)
        folder = checkpoint.folder(self.config.results) if checkpoint else None
        return [f"{folder}/{name}" for name in ADAPTER_FILES] if folder else []

    def stimuli_path(self, study: str) -> str:
        """The study's stimuli file, as rules read it."""
        configured = self.config.stimuli.get(study)
        if configured is None:
            return rule_input(self.studies[study].stimuli_file)
        return input_name(configured, self.root)

    @cached_property
    def trials(self) -> dict[str, list[Trial]]:
        """The trials of every configured study, which its variants give their orders of options.

        Raises `StimuliError`.
        """
        found = {
            name: read_trials(Path(self.stimuli_path(name)), study, self.config.limit)
            for name, study in self.studies.items()
        }
        for variants in self._variants.values():
            for name, study in self.studies.items():
                for prompts in variants[name].values():
                    study.counterbalance(prompts, found[name])
        return found

    @cached_property
    def stimuli_digests(self) -> dict[str, str]:
        """Digest of every configured study's trials: of what is asked, not of the file's bytes."""
        return {
            study: digest([trial.row() for trial in trials])
            for study, trials in self.trials.items()
        }

    @property
    def _loaded(self) -> dict[str, ModelEntry]:
        """The models of the run, that which reads answers among them."""
        reader = self.reader
        return self.models if reader is None else {**self.models, reader.key: reader.entry}

    def check(self) -> None:
        """Read all that the run will read, so that bad input stops it before it starts."""
        check_places(self.config.results, self.config.journal_dir, self.root)
        assert self._prompt_digests
        placement.check_tags(self.config.gpus, self.cluster)
        placement.check_placements(self.entries, self.clusters.values())
        contents = Contents(Path(self.config.journal_dir))
        for key, entry in self._loaded.items():
            folder = located(entry.name, self.root)
            if not entry.engine_spec.is_remote and folder.is_dir():
                check_is_model(folder, f"model '{key}': name '{entry.name}'")
            # A checkpoint is checked when it is trained, and in its plan: an old one that does not
            # fit must not be in the way of the new.
            if entry.trained is None:
                adapter_base.check(key, entry, self.root, contents, fetch=False)
        check_tokenizers(self.config, self.models)
        check_continuations(self.studies, self.config.experiments, self.models)
        if "exp1" in self.config.experiments:
            check_lengths(self.config, self.models)
        for of in self.people_models.values():
            for study, source in of.items():
                PeopleModel(self.studies[study], source).check(self.trials[study])
        for study, trials in self.trials.items():
            check_people(self.studies[study], trials)
            for variants in self._variants.values():
                check = partial(
                    check_prompts,
                    Path(self.stimuli_path(study)),
                    self.studies[study],
                    self.asked[study],
                    trials,
                    variants[study],
                )
                passed.once(
                    self.studies[study],
                    self.asked[study],
                    self.stimuli_digests[study],
                    variants[study],
                    check,
                )

    @cached_property
    def _prompt_digests(self) -> dict[str, dict[str, dict[str, str]]]:
        return {
            prompting: {
                f"{name}_{experiment}": {
                    variant: prompts.digest(study.templates[experiment])
                    for variant, prompts in variants[name].items()
                }
                for name, study in self.studies.items()
                for experiment in self.asked[name]
            }
            for prompting, variants in self._variants.items()
        }

    @property
    def prompt_digests(self) -> dict[str, dict[str, str]]:
        """Digest of the templates behind each experiment's prompts, by label and variant.

        They are those of `variants`.
        """
        return self._prompt_digests[self.promptings[0]]

    def prompt_digests_of(self, model: str) -> dict[str, dict[str, str]]:
        """Those of the prompts that a model is asked with, its examples among them."""
        return self._prompt_digests[self.models[model].wording]

    def terminators_of(self, model: str) -> str:
        """`scoring.terminators`; `all` for an engine that reads every end."""
        leaves_out = self.models[model].engine_spec.reads_without_ends
        return self.config.scoring.terminators if leaves_out else "all"

    @cached_property
    def wanted(self) -> dict[str, Any]:
        """What the run asks of every model, for `grace.experiments.preflight`."""
        config = self.config
        return {
            "stimuli": {study: self.stimuli_path(study) for study in self.studies},
            "studies": self.study_jobs(),
            "asks": {
                f"{name}_{experiment}": study.asking_digest(experiment)
                for name, study in self.studies.items()
                for experiment in self.asked[name]
            },
            "limit": config.limit,
            "trials": self.stimuli_digests,
            "variants": list(config.variants),
            "prompts": self.prompt_digests,
            "experiments": list(config.experiments),
            "max_tokens": config.generation.max_tokens,
            "surface_forms": list(config.scoring.surface_forms),
            # Only where there are such, so that a chat's are what they were.
            **(
                {"completion": self._prompt_digests[CompletionPrompts.prompting]}
                if CompletionPrompts.prompting in self.promptings
                else {}
            ),
        }

    def study_jobs(self) -> dict[str, dict[str, str]]:
        """What jobs get of each study: where it lies, and the digest of what it declares."""
        return {
            name: {
                "folder": str(study.folder),
                "digest": study.digest,
                "root": str(study.root or ""),
            }
            for name, study in self.studies.items()
        }

    @cached_property
    def model_configs(self) -> dict[str, dict[str, Any]]:
        """What of each model's entry, and of its files if local, can change an answer."""
        contents = Contents(Path(self.config.journal_dir))
        arguments = self.config.serving.extra_args
        return {
            key: {
                "key": key,
                **ModelIdentity(entry, arguments, self.root, contents).output_config(),
            }
            for key, entry in self.models.items()
        }

    def sharing(self, model: str) -> dict[str, dict[str, Any]]:
        """The entries that one server answers for, this one among them; empty without adapters."""
        shared = adapter_base.sharing(model, self.models)
        return {key: entry.model_dump() for key, entry in shared.items()}

    def run_config(self) -> dict[str, Any]:
        """The settings that another run needs to repeat this one, as `--configfile` takes them.

        Those of this machine, which can change no answer, are left out, and so is `{}`, which
        would set nothing.
        """
        dumped = self.config.model_dump(exclude=MACHINE)
        values = {key: value for key, value in dumped.items() if value != {}}
        values["models"] = self._named_models
        if any(
            entry.model_dump(exclude=PLACEMENT) != self.entries[model].model_dump(exclude=PLACEMENT)
            for model, entry in self.models.items()
        ):
            values |= {"gpus": list(self.config.gpus), "cluster": self.config.cluster}
        return values

    @cached_property
    def origins(self) -> dict[str, str]:
        """What readers must know of where a model comes from, by model; most are not there."""
        found = {
            key: origin(located(entry.name, self.root), self.root)
            for key, entry in self.models.items()
        }
        said = {
            name: PEOPLE if any(self._is_people(study, source) for study, source in of.items())
            else MODEL_OF_PEOPLE
            for name, of in self.people_models.items()
        }  # fmt: skip
        return {**{key: text for key, text in found.items() if text}, **said}

    def _is_people(self, study: str, source: str) -> bool:
        people = self.studies[study].declaration.people
        return people is not None and people.source == source

    def people_models_of(self, study: str) -> dict[str, str]:
        """The sources of a study that stand beside its language models, by name."""
        return {name: of[study] for name, of in self.people_models.items() if study in of}

    def reference_files(self, study: str) -> list[str]:
        """The files that these rows are made from, from here where they lie below."""
        here = Path.cwd()
        files = (Path(path) for path in reference_inputs(self.studies[study]))
        return [
            str(path.relative_to(here) if path.is_relative_to(here) else path) for path in files
        ]


def _journal(environment: Mapping[str, str]) -> str:
    """The folder of the journal that a pod gets. Raises `ConfigError`."""
    try:
        return folder(environment[JOURNAL_VARIABLE])
    except ValueError as error:
        raise ConfigError(f"{JOURNAL_VARIABLE}: {error}.") from None
