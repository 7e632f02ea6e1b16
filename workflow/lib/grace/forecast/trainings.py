"""What the trainings of a run ask for and make, step by step, counted from recipes alone. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from grace.forecast.recipe_steps import EVALUATE, ROUND, SEEDED, SHARED
from grace.posttraining.judging import FORMS
from grace.posttraining.recipe_runs import RecipeRun

#: The steps of a recipe that ask its base or train, in their order.
STEPS = (*SHARED, *SEEDED, *ROUND, EVALUATE)


def amount(run: RecipeRun, step: str) -> str:
    """What one job of a step asks for, at most."""
    recipe = run.recipe
    number, most = recipe.instructions.train, recipe.answers.max_tokens
    drawn = number * recipe.pairs.candidates
    by_base = round(number * recipe.instructions.by_base)
    candidates = f"{drawn:,} answers of at most {most:,} tokens"
    judgements = f"at most {len(FORMS) * drawn:,} judgements"
    pairs = f"at most {min(number, recipe.pairs.target):,} pairs, {_epochs(recipe.dpo.epochs)}"
    return {
        "instructions": f"{by_base:,} instructions by the base, {number - by_base:,} of the bank",
        "answers": f"{number:,} answers of at most {most:,} tokens",
        "judge": f"at most {len(FORMS) * number:,} judgements",
        "sft": f"at most {number:,} rows, {_epochs(recipe.sft.epochs)}",
        "candidates": candidates,
        "judge_pairs": judgements,
        "dpo": pairs,
        "online_candidates": candidates,
        "online_judge": judgements,
        "online_dpo": pairs,
        "evaluate": f"{recipe.instructions.evaluation:,} answers of at most {most:,} tokens",
    }[step]


def _epochs(number: float) -> str:
    return "once" if number == 1 else f"{number:g} times"


def lines(
    trainings: Mapping[str, RecipeRun], jobs: Mapping[tuple[str, str], int],
    taking: Mapping[tuple[str, str], str],
) -> list[str]:  # fmt: skip
    """A line for each step with jobs, which are counted by recipe and step.

    `taking` says by the same what all of them take.
    """
    found = []
    for name, run in trainings.items():
        for step in STEPS:
            count = jobs.get((name, step), 0)
            if count:
                times = f"{count:,} run{'s' if count > 1 else ''} of "
                told = taking.get((name, step))
                more = f"; {told}" if told else ""
                found.append(f"  {name}, {step}: {times}{amount(run, step)}{more}")
    return found
