"""What each output of a project depends on: its part of the configuration, its code, its files.

Snakemake records all of it as params.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from grace import modules, seeds
from grace.digests import digest, file_digest
from grace.modules import Code
from grace.pico.settings import TRAINED_ON, Settings
from grace.places import located
from grace.prompts.variants import PromptSet
from grace.settings.config import GenerationConfig, ModelEntry
from grace.settings.output_configs import (
    AnalysisConfig,
    DecodingConfig,
    ExperimentConfig,
    ExtractConfig,
    FitConfig,
    MeasurementConfig,
    MergeConfig,
    PicoConfig,
    PlanConfig,
    ProbabilitiesConfig,
    ReferenceConfig,
    ReportConfig,
    ReviewedConfig,
    SamplingConfig,
    StructureConfig,
    StudyAnalysisConfig,
    TableConfig,
    ThinkingConfig,
    TrialBrowserConfig,
    ValidationConfig,
)
from grace.settings.project import Project
from grace.source_code import script_imports, source_digest
from grace.studies.analysis_files import analysis_settings, report_settings
from grace.studies.catalogue import bundled
from grace.studies.theory import reference_depends_on, theory_file
from grace.trial_browser import page as trial_page


def thinking_config(entry: ModelEntry) -> ThinkingConfig | None:
    """How a model thinks in experiment 2; None where it does not."""
    if entry.reasoning is None or not entry.thinks:
        return None
    names = set(ThinkingConfig.model_fields) - {"answer_lead", "max_tokens"}
    return ThinkingConfig(
        **entry.reasoning.model_dump(include=names),
        max_tokens=entry.reasoning.measured_max_tokens,
        answer_lead=entry.reasoning.answer_lead,
    )


class Outputs:
    """Output configurations, code and inputs of a project's outputs, one method a kind."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._config = project.config
        #: Snakemake asks for a job's code several times, and for that of thousands of jobs. What it
        #: is cannot change on the way: jobs stop where it is not what they were planned with.
        self._codes: dict[tuple[tuple[str, ...], tuple[str, ...]], Code] = {}
        self._imports: dict[str, set[str]] = {}
        self._readings: dict[str, str] = {}

    def plan(self, model: str, replication: int) -> PlanConfig:
        """Of plan.json."""
        return PlanConfig(
            model=self._project.model_configs[model],
            replication=replication,
            # Not the experiments' own: another study would make all of them stale.
            seeds={"base_seed": seeds.replication_seed(self._config.base_seed, replication)},
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
            "seed_offset": project.studies[study].seed_offset(experiment),
            "shuffle": config.shuffle,
            # As many as there are: a limit beyond the last trial changes nothing.
            "limit": len(project.trials[study]),
            "stimuli": project.stimuli_digests[study],
            "prompts": project.prompt_digests_of(model)[f"{study}_{experiment}"],
            "asks": project.studies[study].asking_digest(experiment),
        }
        if experiment == "exp1":
            return SamplingConfig(**common, decoding=config.generation)
        return MeasurementConfig(
            **common,
            surface_forms=list(config.scoring.surface_forms),
            terminators=project.terminators_of(model),
            thinking=thinking_config(project.models[model]),
        )

    def tabulate(self, study: str) -> TableConfig:
        """Of a study's raw table."""
        return TableConfig(reads=self._reads(study))

    def extract(self, study: str) -> ExtractConfig:
        """Of what a model reads of raw answers."""
        project = self._project
        reader = {"reader": dict(project.reader.config)} if project.reader else {}
        return ExtractConfig(
            reads=self._reads(study), extraction={**project.extraction.output_config(), **reader}
        )

    def structure(self, study: str) -> StructureConfig:
        """Of structured answers."""
        return StructureConfig(
            **self.extract(study).model_dump(),
            percentage_tolerance=self._config.thresholds.percentage_tolerance,
        )

    def probabilities(self, study: str) -> ProbabilitiesConfig:
        """Of the probability tables."""
        decoding = self._decoding()
        return ProbabilitiesConfig(
            reads=self._reads(study),
            min_option_mass=self._config.thresholds.min_option_mass,
            decoding=decoding
            and DecodingConfig(temperature=decoding.temperature, top_p=decoding.top_p),
        )

    def validation(self, model: str) -> ValidationConfig:
        """Of validation.json."""
        entry = self._project.models[model]
        return ValidationConfig(
            answers_as=entry.engine_spec.answers_as(model, entry),
            decoding=self._decoding(),
            min_agreement=self._config.review.min_agreement,
            thresholds=self._config.thresholds,
            trials={study: len(trials) for study, trials in self._project.trials.items()},
            reads={study: self._reads(study) for study in self._project.studies},
            variants=list(self._config.variants),
        )

    def reviewed(self) -> ReviewedConfig:
        """Of the agreement of answers as they were read with review sheets."""
        return ReviewedConfig(reads={study: self._reads(study) for study in self._project.studies})

    def merge(self, study: str) -> MergeConfig:
        """Of an analysis-ready table."""
        project = self._project
        return MergeConfig(
            reads=self._reads(study),
            on_invalid=self._config.on_invalid,
            decoding=self._decoding(),
            answers_as={
                model: entry.engine_spec.answers_as(model, entry)
                for model, entry in project.models.items()
            },
            thresholds=self._config.thresholds,
            trials=len(project.trials[study]),
            variants=list(self._config.variants),
            people_models=self._people_models(study),
        )

    def _people_models(self, study: str) -> dict[str, Any]:
        """What the rows of people and models of people among language models depend on."""
        found = self._project.people_models_of(study)
        if not found:
            return {}
        return {
            "sources": found,
            "reference": reference_depends_on(self._project.studies[study]),
            "trials": self._project.stimuli_digests[study],
        }

    def reference(self, study: str) -> ReferenceConfig:
        """Of a study's rows of people and models of people."""
        return ReferenceConfig(**reference_depends_on(self._project.studies[study]))

    def fit(self, study: str) -> FitConfig:
        """Of the parameters of a study's models of people, fitted to each language model."""
        decoding = self._decoding()
        return FitConfig(
            **reference_depends_on(self._project.studies[study]),
            temperature=decoding.temperature if decoding else None,
        )

    def analysis(self, study: str) -> AnalysisConfig:
        """Of one study's analysis; a generic one depends on the declaration."""
        settings = analysis_settings(self._project.studies[study])
        shared = {**self._analysis(), "people_models": self._project.people_models_of(study)}
        return StudyAnalysisConfig(**shared, **settings) if settings else AnalysisConfig(**shared)

    def report(self) -> ReportConfig:
        """Of the report."""
        studies = {name: report_settings(study) for name, study in self._project.studies.items()}
        people = {name: name for name in self._project.people_models}
        price = self._project.extraction.price
        asked = {model for model, _ in self._project.replications}
        trainings = {
            name: shown
            for name, run in self._project.trainings.items()
            if (shown := run.shown(asked))
        }
        return ReportConfig(
            **self._analysis(),
            people_models=people,
            studies=studies,
            price=price.model_dump() if price and self._project.extraction.asks_api else {},
            trainings=trainings,
        )

    def trial_browser(self) -> TrialBrowserConfig:
        """Of the trial browser."""
        project = self._project
        return TrialBrowserConfig(
            studies={
                name: {
                    "reads": self._reads(name),
                    "title": study.title,
                    "summary": study.declaration.summary,
                    "factors": study.declaration.factors,
                    "people": digest(reference_depends_on(study)),
                }
                for name, study in project.studies.items()
            },
            models=list(dict.fromkeys(model for model, _ in project.replications)),
            origins=project.origins,
        )

    def trial_browser_code(self) -> Code:
        """The code behind the trial browser, what its page is made of among it."""
        imported = script_imports(self._project.root / "scripts" / "trial_browser.py")
        return self._code(["trial_browser.py", *trial_page.FILES], imported)

    def _analysis(self) -> dict[str, Any]:
        decoding = self._decoding()
        return {
            "origins": self._project.origins,
            "generation": decoding.model_dump() if decoding else {},
        }

    def pico(self) -> PicoConfig:
        """Of the bundled model."""
        root = self._project.root
        people = bundled(root, *TRAINED_ON)
        templates = [
            template
            for study in people.values()
            for names in study.templates.values()
            for template in names
        ]
        reference = root / "resources" / "reference"
        return PicoConfig(
            settings=Settings().as_dict(),
            prompts=PromptSet(located("config/prompts/seed", root)).digest(templates),
            people={
                name: [
                    source_digest(theory_file(study)),
                    *map(study.asking_digest, study.experiments),
                ]
                for name, study in people.items()
            },
            reference={
                name: file_digest(reference / name)
                for name in ("politeness_lexicon.csv", "politeness_weights.csv")
            },
        )

    def experiment_code(self, model: str, study: str, experiment: str) -> Code:
        """The script and the modules behind one experiment's records."""
        script = {"exp1": "generate.py", "exp2": "score.py"}[experiment]
        engine = self._project.models[model].engine
        behind = modules.experiment_modules(engine, experiment)
        return self._code([script], behind)

    def table_code(self, script: str, study: str) -> Code:
        """The code behind a study's table, by the script that writes it."""
        return self.code(script, "studies/answers.py", "studies/distributions.py")

    def extraction_code(self, study: str) -> Code:
        """The code behind what a model reads of answers, its engine where jobs load it."""
        reader = self._project.reader
        behind = modules.reading_modules(reader.entry.engine) if reader else ()
        names = ("studies/answers.py", "studies/distributions.py")
        return self.code("extract.py", *names, *behind)

    def code(self, script: str, *names: str) -> Code:
        """A Python script, what it imports from the library, and modules by name."""
        if script not in self._imports:
            self._imports[script] = script_imports(self._project.root / "scripts" / script)
        return self._code([script], [*self._imports[script], *names])

    def script_code(self, *names: str) -> Code:
        """Files alone, named as seen from scripts/."""
        return self._code(names)

    def input_digests(self, *paths: str) -> dict[str, str]:
        """Digests of bundled files that rules read, by path below the project's root."""
        return {path: file_digest(self._project.root / path) for path in paths}

    def _code(self, scripts: Iterable[str], names: Iterable[str] = ()) -> Code:
        key = tuple(scripts), tuple(sorted(set(names)))
        if key not in self._codes:
            self._codes[key] = modules.code(self._project.root, *key)
        return self._codes[key]

    def _reads(self, study: str) -> str:
        if study not in self._readings:
            self._readings[study] = self._project.studies[study].reading_digest()
        return self._readings[study]

    def _decoding(self) -> GenerationConfig | None:
        """How answers are sampled; None where none are."""
        return self._config.generation if "exp1" in self._config.experiments else None
