"""What each output of a project depends on: its part of the configuration, its code, its files.

Snakemake records all of it as params.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from grace import modules
from grace.digests import file_digest
from grace.modules import Code
from grace.pico.settings import Settings
from grace.prompts.variants import PromptSet
from grace.settings.config import GenerationConfig
from grace.settings.output_configs import (
    AnalysisConfig,
    ExperimentConfig,
    MeasurementConfig,
    MergeConfig,
    PicoConfig,
    PlanConfig,
    ProbabilitiesConfig,
    SamplingConfig,
    StructureConfig,
    ValidationConfig,
)
from grace.settings.project import Project
from grace.source_code import script_imports
from grace.studies import STUDIES


class Outputs:
    """Output configurations, code and inputs of a project's outputs, one method a kind."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._config = project.config
        #: Snakemake asks for a job's code several times, and for that of thousands of jobs.
        self._codes: dict[tuple[tuple[str, ...], tuple[str, ...]], Code] = {}

    def plan(self, model: str, replication: int) -> PlanConfig:
        """Of plan.json."""
        return PlanConfig(
            model=self._project.model_configs[model],
            replication=replication,
            seeds=self._project.seeds(replication),
            shuffle=self._config.shuffle,
        )

    def experiment(
        self, model: str, replication: int, study: str, experiment: str
    ) -> ExperimentConfig:
        """Of one experiment's records."""
        project, config = self._project, self._config
        common: dict[str, Any] = {
            "model": project.model_configs[model],
            "study": study,
            "experiment": experiment,
            "replication": replication,
            "base_seed": config.base_seed,
            "shuffle": config.shuffle,
            # As many as there are: a limit beyond the last trial changes nothing.
            "limit": len(project.trials[study]),
            "stimuli": project.stimuli_digests[study],
            "prompts": project.prompt_digests[f"{study}_{experiment}"],
        }
        if experiment == "exp1":
            return SamplingConfig(**common, decoding=config.generation)
        return MeasurementConfig(**common, surface_forms=list(config.scoring.surface_forms))

    def structure(self) -> StructureConfig:
        """Of structured answers."""
        return StructureConfig(
            extraction=self._config.extraction,
            percentage_tolerance=self._config.thresholds.percentage_tolerance,
        )

    def probabilities(self) -> ProbabilitiesConfig:
        """Of the probability tables."""
        return ProbabilitiesConfig(min_option_mass=self._config.thresholds.min_option_mass)

    def validation(self, model: str) -> ValidationConfig:
        """Of validation.json."""
        entry = self._project.models[model]
        return ValidationConfig(
            answers_as=entry.engine_spec.answers_as(model, entry),
            decoding=self._decoding(),
            thresholds=self._config.thresholds,
            trials={study: len(trials) for study, trials in self._project.trials.items()},
            variants=list(self._config.variants),
        )

    def merge(self) -> MergeConfig:
        """Of the analysis-ready tables."""
        return MergeConfig(on_invalid=self._config.on_invalid, decoding=self._decoding())

    def analysis(self) -> AnalysisConfig:
        """Of analyses and report."""
        decoding = self._decoding()
        return AnalysisConfig(
            origins=self._project.origins,
            generation=decoding.model_dump() if decoding else {},
        )

    def pico(self) -> PicoConfig:
        """Of the bundled model."""
        root = self._project.root
        templates = [
            template
            for study in STUDIES.values()
            for names in study.templates.values()
            for template in names
        ]
        reference = root / "resources" / "reference"
        return PicoConfig(
            settings=Settings().as_dict(),
            prompts=PromptSet(root / "config" / "prompts" / "seed").digest(templates),
            reference={
                name: file_digest(reference / name)
                for name in ("politeness_lexicon.csv", "politeness_weights.csv")
            },
        )

    def experiment_code(self, model: str, study: str, experiment: str) -> Code:
        """The script and the modules behind one experiment's records."""
        script = {"exp1": "generate.py", "exp2": "score.py"}[experiment]
        engine = self._project.models[model].engine
        behind = modules.experiment_modules(engine, study, experiment)
        return self._code([script], behind)

    def table_code(self, script: str, study: str) -> Code:
        """The code behind a study's table, by the script that writes it."""
        return self.code(script, f"studies/{study}_answers.py")

    def code(self, script: str, *names: str) -> Code:
        """A Python script, what it imports from the library, and modules by name."""
        imported = script_imports(self._project.root / "scripts" / script)
        return self._code([script], [*imported, *names])

    def script_code(self, *names: str) -> Code:
        """Files in scripts/ alone."""
        return self._code(names)

    def input_digests(self, *paths: str) -> dict[str, str]:
        """Digests of bundled files that rules read, by path below the project's root."""
        return {path: file_digest(self._project.root / path) for path in paths}

    def _code(self, scripts: Iterable[str], names: Iterable[str] = ()) -> Code:
        key = tuple(scripts), tuple(sorted(set(names)))
        if key not in self._codes:
            self._codes[key] = modules.code(self._project.root, *key)
        return self._codes[key]

    def _decoding(self) -> GenerationConfig | None:
        """How answers are sampled; None where none are."""
        return self._config.generation if "exp1" in self._config.experiments else None
