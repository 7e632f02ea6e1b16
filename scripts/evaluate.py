"""Answers of a base or checkpoint to its recipe's held-out items, and whether they are right."""

from pathlib import Path
from typing import Any

from grace.evaluation.held_out import held_out_items, refuse_trained, trained_rows, verdicts
from grace.posttraining.answers import answer_rows
from grace.posttraining.asking import asked
from grace.results.records import read_records, write_json
from grace.settings.training_configs import EvaluateStep


def evaluate(
    rows: Path, trained: list[Path], answers: Path, config: EvaluateStep, settings: dict[str, Any]
) -> dict[str, Any]:
    """Write the answers with their verdicts. Gives facts of the model. Raises `GraceError`."""
    items = held_out_items(list(read_records(rows)), config.held_out)
    for path in trained:
        refuse_trained(items, trained_rows(path), str(path))
    label = f"{settings['recipe']}, {config.evaluated}, evaluation"
    with asked(config.answers.model, settings, "exp1", label) as model:
        given = list(answer_rows(items, config.answers, model))
    write_json(
        answers,
        {
            "model": settings["key"],
            "evaluated": config.evaluated,
            "shots": len(config.answers.examples),
            "temperature": config.answers.temperature,
            "max_tokens": config.answers.max_tokens,
            "items": verdicts(items, given, config),
        },
    )
    return model.facts


if __name__ == "__main__":
    from grace.runs.scripting import job

    with job(snakemake, __file__) as record:
        record |= evaluate(
            Path(snakemake.input.rows),
            [Path(path) for path in snakemake.input.trained],
            Path(snakemake.output.answers),
            EvaluateStep.model_validate(snakemake.params.output_config),
            dict(snakemake.params.runtime),
        )
