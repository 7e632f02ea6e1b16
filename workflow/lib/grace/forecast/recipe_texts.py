"""What of a recipe decides how much there is to do: its numbers, and its texts in tokens. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from grace.forecast.recipe_amounts import RecipeNumbers, RecipeTexts
from grace.forecast.tokens import StandInTokenizer
from grace.posttraining import answers, instructions, judging
from grace.posttraining.constitution import Constitution
from grace.posttraining.instruction_bank import InstructionBank
from grace.posttraining.recipe_runs import RecipeRun
from grace.posttraining.token_rows import prompt_text
from grace.settings.training_configs import JudgeStep


def recipe_numbers(run: RecipeRun) -> RecipeNumbers:
    """Those of a recipe."""
    recipe = run.recipe
    return RecipeNumbers(
        train=recipe.instructions.train,
        by_base=recipe.instructions.by_base,
        shots_of_base=instructions.SHOTS,
        forms=len(judging.FORMS),
        evaluation=recipe.instructions.evaluation,
        max_tokens=recipe.answers.max_tokens,
        candidates=recipe.pairs.candidates,
        target=recipe.pairs.target,
        sft_epochs=recipe.sft.epochs,
        dpo_epochs=recipe.dpo.epochs,
    )


def recipe_texts(run: RecipeRun) -> RecipeTexts:
    """Those of a recipe's constitution and bank."""
    count = StandInTokenizer().tokenise
    form, recipe = run.constitution.format, run.recipe
    seed = recipe.instructions.draw
    texts = list(_wordings(run.bank))
    instruction = fmean(len(count(prompt_text(form, text))) for text in texts)
    examples = answers.drawn(run.constitution.examples, recipe.answers.shots, seed)
    shown = len(count(answers.few_shot(form, examples, ""))) - len(count(prompt_text(form, "")))
    config = _judge(run.constitution, recipe.judge.shots, seed)
    judge = fmean(len(count(judging.question(config, one, "", ""))) for one in judging.FORMS)
    bare = config.model_copy(update={"principles": [], "examples": []})
    question = fmean(len(count(judging.question(bare, one, "", ""))) for one in judging.FORMS)
    return RecipeTexts(instruction, shown, judge - question, question)


def _judge(constitution: Constitution, shots: int, seed: int) -> JudgeStep:
    told = constitution.judge
    return JudgeStep(
        model={},
        principles=[principle.text for principle in constitution.principles],
        accepting=told.accepting,
        rejecting=told.rejecting,
        examples=judging.drawn(told.examples, shots, seed),
    )


def _wordings(bank: InstructionBank) -> Iterator[str]:
    """An instruction of each wording, with the longest of the values."""
    for kind in bank.types:
        for text in kind.training:
            for name, values in kind.values.items():
                text = text.replace(f"{{{name}}}", max(values, key=len))
            yield text
