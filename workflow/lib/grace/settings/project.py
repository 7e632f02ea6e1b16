"""A project as the workflow sees it: config, models, wordings, and what each output depends on.

A *cell* is a dict with exactly the configuration that can change the bytes of one job's output;
`*_code` is a digest of the library modules that can, with their names (`grace.modules`). Snakemake
records both as params, so that only what they change is stale. Paths, speed and placement are not
in them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from grace import modules, seeds
from grace.cluster import placement
from grace.cluster.placement import Placement
from grace.cluster.settings import Cluster, load_clusters, select_cluster
from grace.contents import Contents
from grace.digests import digest, file_digest, script_imports, source_digest
from grace.errors import ConfigError
from grace.experiments.preflight import check_tokenizers
from grace.models.files import check_is_model
from grace.models.identity import PLACEMENT, ModelIdentity
from grace.modules import Code
from grace.pico.origin import origin
from grace.pico.settings import TRAINED_ON, Settings
from grace.places import input_name, located, rule_input
from grace.prompts.checks import check_prompts
from grace.prompts.variants import PromptSet
from grace.runs.continuation import Failure, Replication, from_environment
from grace.settings.config import (
    Config,
    ModelEntry,
    check_lengths,
    load_config,
    load_models,
    select_models,
)
from grace.settings.fields import folder
from grace.settings.folders import check_places
from grace.studies.catalogue import bundled, check_run, load_studies
from grace.studies.stimuli import read_trials
from grace.studies.study import Study
from grace.studies.theory import (
    check_people,
    reference_depends_on,
    reference_inputs,
    theory_file,
)
from grace.studies.trials import Trial

#: Settings of the config that cannot, either; a tag can where it changes a model's entry.
MACHINE = {"requests", "serving", "journal_dir", "journal_timeout_s", "gpus", "cluster", "name"}

#: What a pod is told: the tag of its GPUs, and the folder of the journal.
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
        self.config: Config = config
        #: What failed before the run went on without it.
        self.failed: list[Failure] = from_environment(environment)
        #: As they stand in models.yaml, before a GPU is chosen.
        self.entries: dict[str, ModelEntry] = select_models(
            config, load_models(located("config/models.yaml", root))
        )
        self.models: dict[str, ModelEntry] = self._placed(environment.get(TAG_VARIABLE))
        #: The configured studies by name, in the config's order.
        self.studies: dict[str, Study] = load_studies(config.studies, root, Path.cwd())
        check_run(self.studies, config, root)
        #: By study and variant.
        self.wordings: dict[str, dict[str, PromptSet]] = {
            name: {variant: study.wording(variant) for variant in config.variants}
            for name, study in self.studies.items()
        }

    @cached_property
    def asked(self) -> dict[str, tuple[str, ...]]:
        """The experiments that are asked of each study: configured, and declared by it."""
        return {
            name: tuple(one for one in self.config.experiments if one in study.experiments)
            for name, study in self.studies.items()
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
        return {
            model: placement.choose(model, entry, self.cluster, self.config.gpus)
            for model, entry in self.entries.items()
        }

    def _placed(self, tag: str | None) -> dict[str, ModelEntry]:
        """The models as they run on the first of their tags, or on the pod's own `tag`.

        Without `gpus` and outside of a pod, they run as models.yaml says.
        """
        if not (self.config.gpus or tag):
            return dict(self.entries)
        here = {
            model: next((one for one in allowed if one.tag == tag), None)
            for model, allowed in self.placements.items()
        }
        if tag and not any(here.values()):
            known = sorted({one.tag for allowed in self.placements.values() for one in allowed})
            raise ConfigError(
                f"{TAG_VARIABLE}: no model of this run may run on '{tag}', only on"
                f" {', '.join(known) or 'none'}. Unset it, or name the tag in `gpus`."
            )
        placed = {}
        for model, entry in self.entries.items():
            chosen = here[model] or next(iter(self.placements[model]), None)
            placed[model] = placement.apply(entry, chosen) if chosen else entry
        return placed

    def stimuli_path(self, study: str) -> str:
        """The study's stimuli file, as rules read it."""
        configured = self.config.stimuli.get(study)
        if configured is None:
            return rule_input(self.studies[study].stimuli_file)
        return input_name(configured, self.root)

    @cached_property
    def trials(self) -> dict[str, list[Trial]]:
        """The trials of every configured study. Raises `StimuliError`."""
        return {
            name: read_trials(Path(self.stimuli_path(name)), study, self.config.limit)
            for name, study in self.studies.items()
        }

    @cached_property
    def stimuli_digests(self) -> dict[str, str]:
        """Digest of every configured study's trials: of what is asked, not of the file's bytes."""
        return {
            study: digest([trial.row() for trial in trials])
            for study, trials in self.trials.items()
        }

    def check(self) -> None:
        """Read all that the run will read, so that bad input stops it before it starts."""
        check_places(self.config.results, self.config.journal_dir, self.root)
        assert self.prompt_digests
        placement.check_tags(self.config.gpus, self.cluster)
        placement.check_placements(self.entries, self.clusters.values())
        for key, entry in self.models.items():
            folder = located(entry.name, self.root)
            if entry.engine != "endpoint" and folder.is_dir():
                check_is_model(folder, f"model '{key}': name '{entry.name}'")
        check_tokenizers(self.config, self.models)
        if "exp1" in self.config.experiments:
            check_lengths(self.config, self.models)
        for study, trials in self.trials.items():
            check_people(self.studies[study], trials)
            check_prompts(
                Path(self.stimuli_path(study)),
                self.studies[study],
                self.asked[study],
                trials,
                self.wordings[study],
            )

    @cached_property
    def prompt_digests(self) -> dict[str, dict[str, str]]:
        """Digest of the templates behind each experiment's prompts, by label and variant."""
        return {
            f"{name}_{experiment}": {
                variant: wording.digest(study.templates[experiment])
                for variant, wording in self.wordings[name].items()
            }
            for name, study in self.studies.items()
            for experiment in self.asked[name]
        }

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
        }

    def study_jobs(self) -> dict[str, dict[str, str]]:
        """What jobs are told of each study: where it lies, and the digest of what it declares."""
        return {
            name: {
                "folder": str(study.folder),
                "digest": study.digest,
                "root": str(study.root or ""),
            }
            for name, study in self.studies.items()
        }

    @cached_property
    def model_cells(self) -> dict[str, dict[str, Any]]:
        """What of each model's entry, and of its files if local, can change an answer."""
        contents = Contents(Path(self.config.journal_dir))
        arguments = self.config.serving.extra_args
        return {
            key: {"key": key, **ModelIdentity(entry, arguments, self.root, contents).cell()}
            for key, entry in self.models.items()
        }

    def plan_cell(self, model: str, replication: int) -> dict[str, Any]:
        """What a plan depends on.

        Every experiment of the replication depends on its plan, so only what makes all of them
        stale belongs here: no prompts, no decoding options.
        """
        return {
            "model": self.model_cells[model],
            "replication": replication,
            # Not the experiments' own: another study would make all of them stale.
            "seeds": {"base_seed": seeds.replication_seed(self.config.base_seed, replication)},
            "shuffle": self.config.shuffle,
        }

    def experiment_cell(
        self, model: str, replication: int, study: str, experiment: str
    ) -> dict[str, Any]:
        """What one experiment's records depend on."""
        config = self.config
        cell: dict[str, Any] = {
            "model": self.model_cells[model],
            "study": study,
            "experiment": experiment,
            "replication": replication,
            "base_seed": config.base_seed,
            "seed_offset": self.studies[study].seed_offset(experiment),
            "shuffle": config.shuffle,
            # As many as there are: a limit beyond the last trial changes nothing.
            "limit": len(self.trials[study]),
            "stimuli": self.stimuli_digests[study],
            "prompts": self.prompt_digests[f"{study}_{experiment}"],
            "asks": self.studies[study].asking_digest(experiment),
        }
        if experiment == "exp1":
            cell["decoding"] = config.generation.model_dump()
        else:
            cell["surface_forms"] = list(config.scoring.surface_forms)
        return cell

    def experiment_code(self, model: str, study: str, experiment: str) -> Code:
        """The script and the modules behind one experiment's records."""
        script = {"exp1": "generate.py", "exp2": "score.py"}[experiment]
        engine = self.models[model].engine
        behind = modules.experiment_modules(engine, experiment)
        return modules.code(self.root, [script], behind)

    def table_code(self, script: str, study: str) -> Code:
        """The code behind a study's table, by the script that writes it."""
        return self.code(script, "studies/answers.py", "studies/distributions.py")

    def code(self, script: str, *names: str) -> Code:
        """A Python script, what it imports from the library, and modules by name."""
        imported = script_imports(self.root / "scripts" / script)
        return modules.code(self.root, [script], [*imported, *names])

    def pico_cell(self) -> dict[str, Any]:
        """What the bundled model depends on: settings, prompts, the simulated people's data."""
        prompts = PromptSet(located("config/prompts/seed", self.root))
        people = bundled(self.root, *TRAINED_ON)
        templates = [
            template
            for study in people.values()
            for names in study.templates.values()
            for template in names
        ]
        reference = self.root / "resources" / "reference"
        return {
            "settings": Settings().as_dict(),
            "prompts": prompts.digest(templates),
            "people": {
                name: [
                    source_digest(theory_file(study)),
                    *map(study.asking_digest, study.experiments),
                ]
                for name, study in people.items()
            },
            "reference": {
                name: file_digest(reference / name)
                for name in ("politeness_lexicon.csv", "politeness_weights.csv")
            },
        }

    def script_code(self, *names: str) -> Code:
        """Files alone, named as seen from scripts/."""
        return modules.code(self.root, names)

    def input_digests(self, *paths: str) -> dict[str, str]:
        """Digests of bundled files that rules read, by path below the project's root."""
        return {path: file_digest(self.root / path) for path in paths}

    def run_config(self) -> dict[str, Any]:
        """The settings that another run needs to repeat this one, as `--configfile` takes them.

        Those of this machine, which can change no answer, are left out.
        """
        values = self.config.model_dump(exclude=MACHINE)
        if any(
            entry.model_dump(exclude=PLACEMENT) != self.entries[model].model_dump(exclude=PLACEMENT)
            for model, entry in self.models.items()
        ):
            values |= {"gpus": list(self.config.gpus), "cluster": self.config.cluster}
        return values

    def tabulate_cell(self, study: str) -> dict[str, Any]:
        """What a study's raw table depends on, the records apart."""
        return {"reads": self.studies[study].reading_digest()}

    def structure_cell(self, study: str) -> dict[str, Any]:
        """What parsing depends on."""
        return {
            "reads": self.studies[study].reading_digest(),
            "extraction": self.config.extraction.model_dump(),
            "percentage_tolerance": self.config.thresholds.percentage_tolerance,
        }

    def probabilities_cell(self, study: str) -> dict[str, Any]:
        """What the probability tables depend on, the records apart."""
        return {
            "reads": self.studies[study].reading_digest(),
            "min_option_mass": self.config.thresholds.min_option_mass,
        }

    @cached_property
    def origins(self) -> dict[str, str]:
        """What readers must be told of where a model comes from, by model; most are not there."""
        found = {
            key: origin(located(entry.name, self.root), self.root)
            for key, entry in self.models.items()
        }
        return {key: told for key, told in found.items() if told}

    def analysis_cell(self) -> dict[str, Any]:
        """What analyses and report say beside their numbers: origins, settings of experiment 1."""
        return {"origins": self.origins, "generation": self._decoding() or {}}

    def validation_cell(self, model: str) -> dict[str, Any]:
        """What validation depends on, the tables apart.

        `trials` is their number, by study; `answers_as` is how a server is to name the model.
        """
        entry = self.models[model]
        own = {"endpoint": entry.reports_as or entry.name, "vllm": model}
        return {
            "answers_as": own.get(entry.engine),
            "decoding": self._decoding(),
            "thresholds": self.config.thresholds.model_dump(),
            "trials": {study: len(trials) for study, trials in self.trials.items()},
            "reads": {name: study.reading_digest() for name, study in self.studies.items()},
            "variants": list(self.config.variants),
        }

    def reference_cell(self, study: str) -> dict[str, Any]:
        """What a study's rows of people and models of people depend on."""
        return reference_depends_on(self.studies[study])

    def reference_files(self, study: str) -> list[str]:
        """The files that these rows are made from, from here where they lie below."""
        here = Path.cwd()
        files = (Path(path) for path in reference_inputs(self.studies[study]))
        return [
            str(path.relative_to(here) if path.is_relative_to(here) else path) for path in files
        ]

    def merge_cell(self, study: str) -> dict[str, Any]:
        """What merging depends on, the tables apart."""
        return {
            "reads": self.studies[study].reading_digest(),
            "on_invalid": self.config.on_invalid,
            "decoding": self._decoding(),
        }

    def _decoding(self) -> dict[str, Any] | None:
        """How answers are sampled; None where none are."""
        return self.config.generation.model_dump() if "exp1" in self.config.experiments else None


def _journal(environment: Mapping[str, str]) -> str:
    """The folder of the journal that a pod is told. Raises `ConfigError`."""
    try:
        return folder(environment[JOURNAL_VARIABLE])
    except ValueError as error:
        raise ConfigError(f"{JOURNAL_VARIABLE}: {error}.") from None
