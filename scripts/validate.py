"""Check a replication's tables against the number of trials and the thresholds."""

import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from grace.results.records import write_json
from grace.results.tables import TEXT_COLUMNS
from grace.results.validation import (
    Check,
    check_draws,
    check_models,
    check_probabilities,
    check_structured,
    report,
)
from grace.settings.output_configs import ValidationConfig
from grace.studies import STUDIES


def validate(
    structured: Mapping[str, Path],
    probabilities: Mapping[str, Path],
    output: Path,
    model_key: str,
    replication: int,
    config: ValidationConfig,
) -> None:
    """Write validation.json and log every failed check. The files are given by study."""
    checks: list[Check] = []
    for name, trials in config.trials.items():
        study, expected = STUDIES[name], trials * len(config.variants)
        answers, measured = _read(structured.get(name)), _read(probabilities.get(name))
        if answers is not None:
            checks += check_structured(answers, study, expected, config.thresholds)
            checks += check_models(answers, study, "exp1", config.answers_as)
            assert config.decoding is not None
            checks += check_draws(answers, measured, study, config.decoding)
        if measured is not None:
            checks += check_probabilities(measured, study, expected, config.thresholds)
            checks += check_models(measured, study, "exp2", config.answers_as)
    found = report(model_key, replication, checks)
    for line in found.failures():
        logging.warning("%s", line)
    if found.passed:
        logging.info("all %d checks passed", len(found.checks))
    write_json(output, found.model_dump())


def _read(path: Path | None) -> pd.DataFrame | None:
    """A table; an answer "NA" or "null" is an answer, not a missing value."""
    if path is None:
        return None
    return pd.read_csv(
        path,
        keep_default_na=False,
        na_values=[""],
        dtype=dict.fromkeys(TEXT_COLUMNS, "string"),
        low_memory=False,
    )


if __name__ == "__main__":
    from grace.runs.scripting import job

    config = ValidationConfig.model_validate(snakemake.params.output_config)

    def by_study(files: list[str]) -> dict[str, Path]:
        """The files in the order of the configured studies."""
        return {study: Path(path) for study, path in zip(config.trials, files, strict=bool(files))}

    with job(snakemake, __file__):
        validate(
            by_study(snakemake.input.get("structured", [])),
            by_study(snakemake.input.get("probabilities", [])),
            Path(snakemake.output.validation),
            snakemake.wildcards.model,
            int(snakemake.wildcards.replication),
            config,
        )
