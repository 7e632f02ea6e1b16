"""What each output of a recipe's steps depends on: its part of the configuration, and its code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grace import modules, seeds
from grace.digests import digest
from grace.engines import registry
from grace.modules import Code
from grace.places import located
from grace.posttraining import answers, judging
from grace.posttraining.checkpoints import DPO, kind_of_stage, round_of, stage_before
from grace.posttraining.recipe_runs import BASE, BASE_FEW_SHOT, RecipeRun
from grace.settings.config import ModelEntry
from grace.settings.project import Project
from grace.settings.training_configs import (
    AnswersStep,
    CompareStep,
    ContaminationStep,
    EvaluateStep,
    InstructionsStep,
    JudgeStep,
    PairsStep,
    RowsStep,
    SampleStep,
    TrainStep,
)
from grace.source_code import LIBRARY, script_imports


class TrainingOutputs:
    """Output configurations and code of the steps of recipes, one method a step."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._codes: dict[tuple[str, str], Code] = {}

    def _run(self, recipe: str) -> RecipeRun:
        return self._project.trainings[recipe]

    def _model(self, run: RecipeRun) -> dict[str, Any]:
        return self._project.training_config(run.base, run.base_entry)

    def instructions(self, recipe: str) -> InstructionsStep:
        """Of instructions.json."""
        run = self._run(recipe)
        config = run.recipe.instructions
        return InstructionsStep(
            bank=digest(run.bank.asked()),
            train=config.train,
            evaluation=config.evaluation,
            held_out_types=config.held_out_types,
            by_base=config.by_base,
            seed=config.draw,
            model=self._model(run) if config.by_base else None,
        )

    def answers(self, recipe: str) -> AnswersStep:
        """Of the base's answers."""
        run = self._run(recipe)
        config, constitution = run.recipe.answers, run.constitution
        seed = run.recipe.instructions.draw
        return AnswersStep(
            model=self._model(run),
            format=constitution.format,
            examples=answers.drawn(constitution.examples, config.shots, seed),
            **config.model_dump(exclude={"shots"}),
            draws=1,
            seed=seed,
        )

    def candidates(self, recipe: str, seed: int, stage: str = DPO) -> AnswersStep:
        """Of the answers of the checkpoint before a stage, which needs no examples."""
        run = self._run(recipe)
        key, entry = run.checkpoint(stage_before(stage), seed)
        drawn = _draw(seed, stage)
        own = {"examples": [], "draws": run.recipe.pairs.candidates, "seed": drawn}
        own |= {"model": self._project.training_config(key, entry)}
        return self.answers(recipe).model_copy(update=own)

    def judge(self, recipe: str) -> JudgeStep:
        """Of judgements."""
        run = self._run(recipe)
        told, config = run.constitution.judge, run.recipe.judge
        return JudgeStep(
            model=self._model(run),
            principles=[principle.text for principle in run.constitution.principles],
            accepting=told.accepting,
            rejecting=told.rejecting,
            examples=judging.drawn(told.examples, config.shots, run.recipe.instructions.draw),
        )

    def _acceptance(self, run: RecipeRun) -> dict[str, float]:
        return run.recipe.judge.model_dump(include={"accept", "min_option_mass"})

    def sample(self, recipe: str) -> SampleStep:
        """Of the sample of judged answers."""
        run = self._run(recipe)
        config = run.recipe.instructions
        return SampleStep(**self._acceptance(run), rows=config.sample, seed=config.draw)

    def select(self, recipe: str) -> RowsStep:
        """Of the rows of SFT."""
        run = self._run(recipe)
        return RowsStep(
            **self._acceptance(run),
            model=self._model(run),
            format=run.constitution.format,
            max_length=run.recipe.sft.max_length,
        )

    def pairs(self, recipe: str, seed: int, stage: str = DPO) -> PairsStep:
        """Of the pairs of a stage after SFT."""
        run = self._run(recipe)
        return PairsStep(
            **self.select(recipe).model_dump(),
            pairs=run.recipe.pairs,
            refusals=run.constitution.refusals,
            wrong_formats=run.constitution.wrong_formats,
            sample=run.recipe.instructions.sample,
            seed=_draw(seed, stage),
        )

    def train(self, recipe: str, stage: str, seed: int) -> TrainStep:
        """Of an adapter. A round is trained as DPO is; its data and its parent are others."""
        run = self._run(recipe)
        kind = kind_of_stage(stage)
        return TrainStep(
            stage=kind,
            model=self._model(run),
            hyperparameters=run.recipe.hyperparameters(kind),
            seed=seed,
        )

    def contamination(self, recipe: str) -> ContaminationStep:
        """Of the comparison of all training text with the run's stimuli."""
        return ContaminationStep(stimuli=dict(self._project.stimuli_digests))

    def evaluate(self, recipe: str, evaluated: str) -> EvaluateStep:
        """Of the answers of one of `RecipeRun.evaluated` to the items of evaluation."""
        run = self._run(recipe)
        key, entry = run.model_of(evaluated)
        own: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0}
        own |= {"model": self._project.training_config(key, entry)}
        own |= {} if evaluated == BASE_FEW_SHOT else {"examples": []}
        return EvaluateStep(
            evaluated=evaluated,
            answers=self.answers(recipe).model_copy(update=own),
            checks={one.name: one.check for one in run.bank.types},
            held_out=list(run.held_out),
        )

    def compare(self, recipe: str) -> CompareStep:
        """Of the comparison of a recipe's checkpoints in this run."""
        models = {model for model, _ in self._project.replications}
        found = self._run(recipe).evaluated(models)
        curves = [name for name in found if name not in (BASE, BASE_FEW_SHOT)]
        return CompareStep(evaluated=found, curves=curves)

    def compare_code(self) -> Code:
        """scripts/compare.R and what it sources, in that order."""
        libraries = (
            "common", "provenance", "statistics", "inference", "figures", "training_comparison",
            "training_figures",
        )  # fmt: skip
        files = [f"lib/{name}.R" for name in libraries]
        return modules.code(self._project.root, [*files, "compare.R"])

    def asking_code(self, script: str, entry: ModelEntry, experiment: str) -> Code:
        """A script that asks a model, and what is behind its answers."""
        engine = [f"engines/{entry.engine}/{registry.MODULE}.py"]
        if experiment == "exp2":
            names = entry.engine_spec.scoring_modules
            engine += [f"engines/{entry.engine}/{name}" for name in names]
        return self._code(script, entry.engine + experiment, engine)

    def code(self, script: str) -> Code:
        """A script and what it imports."""
        return self._code(script, "", [])

    def training_code(self) -> Code:
        """The script that trains, and the trainer, which runs in an environment of its own."""
        trainer = sorted((LIBRARY / "training").glob("*.py"))
        names = [path.relative_to(LIBRARY).as_posix() for path in trainer]
        return self._code("train.py", "trainer", names)

    def _code(self, script: str, of: str, further: list[str]) -> Code:
        if (script, of) not in self._codes:
            root = self._project.root
            imported = script_imports(root / "scripts" / script)
            self._codes[script, of] = modules.code(root, [script], [*imported, *further])
        return self._codes[script, of]

    def bank_file(self, recipe: str) -> Path:
        """Where the bank of instructions is."""
        return located(self._run(recipe).recipe.instructions.bank, self._project.root)


def _draw(seed: int, stage: str) -> int:
    """The seed of a stage's draws: DPO's is the training seed, each round has one of its own."""
    number = round_of(stage)
    return seeds.request_seed(seed, number, stage) if number else seed
