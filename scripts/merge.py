"""Merge a study's tables over models and replications, if they are valid."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, cast

import pandas as pd

from grace.errors import RecordError
from grace.results.codebook import COLUMNS, codebook
from grace.results.people_tables import people_tables
from grace.results.records import replacing
from grace.results.scoring_methods import methods_ready
from grace.results.tables import TEXT_COLUMNS, CsvLines, analysis_ready, write_rows
from grace.results.validation import (
    NAMED,
    Report,
    check_draws,
    read_checked,
    report,
    study_checks,
)
from grace.runs.continuation import Failure, invalid, refusal_line
from grace.settings.config import GenerationConfig
from grace.settings.output_configs import MergeConfig
from grace.studies.catalogue import study_of_job
from grace.studies.stimuli import read_trials
from grace.studies.study import Study


def checked(
    structured: list[Path], probabilities: list[Path], study: Study, config: MergeConfig
) -> Iterator[Report]:
    """What validation says of the study alone, by replication; the lists are those of `merge`.

    It is checked again, not read from validation.json, which is about all studies of a run: another
    study would rebuild this one's analyses.
    """
    for index in range(max(len(structured), len(probabilities))):
        answers = read_checked(structured[index]) if structured else None
        measured = read_checked(probabilities[index]) if probabilities else None
        first = (answers if answers is not None else measured).iloc[0]  # type: ignore[union-attr]
        model = str(first["model_key"])
        checks = study_checks(
            study,
            answers,
            measured,
            expected=config.trials * len(config.variants),
            thresholds=config.thresholds,
            decoding=config.decoding,
            answers_as=config.answers_as[model],
        )
        yield report(model, int(first["replication"]), checks)


def refuse_invalid(
    reports: Sequence[Report], on_invalid: str, also: Sequence[Failure] = ()
) -> None:
    """Raise `RecordError` with a readable summary of failed checks, or only log it.

    `also` is what no replication shows alone. What is refused is logged for the run that goes on.
    """
    failures = [line for report in reports for line in report.failures()]
    failures += dict.fromkeys(failure.reason for failure in also)
    if not failures:
        return
    summary = "\n".join(
        [
            f"validation failed ({len(failures)} checks):",
            *failures,
            "The rows to review are listed in each replication's validation.json. To analyse"
            " the results all the same: --config on_invalid=warn; the limits are `thresholds` in"
            " config/config.yaml.",
        ]
    )
    if on_invalid == "fail":
        refused = {failure.what: failure for failure in (*also, *invalid(reports))}
        logging.info("%s", refusal_line(list(refused.values())))
        raise RecordError(summary)
    logging.warning("%s", summary)


def read_table(path: Path, study: Study) -> pd.DataFrame:
    """A table of ours; identifiers stay text and only empty cells are missing values."""
    return pd.read_csv(
        path,
        keep_default_na=False,
        na_values=[""],
        dtype=dict.fromkeys((*study.key_columns, *TEXT_COLUMNS), "string"),
        low_memory=False,
    )


def repeated_draws(
    structured: list[Path], probabilities: list[Path], study: Study,
    decoding: GenerationConfig | None,
) -> Iterator[Failure]:  # fmt: skip
    """All replications of models where they repeat each other, which none of them shows alone.

    The lists are those of `merge`; `decoding` is None where no answers were sampled.
    """
    tables: dict[str, list[tuple[pd.DataFrame, pd.DataFrame | None]]] = {}
    for index, path in enumerate(structured):
        found = read_table(path, study)
        measured = read_table(probabilities[index], study) if probabilities else None
        tables.setdefault(str(found["model_key"].iloc[0]), []).append((found, measured))
    for model, pairs in tables.items():
        if len(pairs) > 1:
            scored = [table for _, table in pairs if table is not None]
            assert decoding is not None
            checks = check_draws(
                pd.concat([found for found, _ in pairs]),
                pd.concat(scored) if scored else None,
                study,
                decoding,
            )
            whose = f"{model}, all {len(pairs)} replications"
            replications = {int(found["replication"].iloc[0]) for found, _ in pairs}
            for check in checks:
                if not check.passed:
                    yield from _whole_model(model, replications, study, check.failure(whose))


def mixed_versions(
    structured: list[Path], probabilities: list[Path], study: Study
) -> Iterator[Failure]:
    """All replications of models whose tables come from several versions of the model.

    Each table has one alone, which its own validation saw to.
    """
    found: dict[str, Counter[str]] = {}
    replications: dict[str, set[int]] = {}
    for path in (*structured, *probabilities):
        table = read_table(path, study)
        model = str(table["model_key"].iloc[0])
        replications.setdefault(model, set()).add(int(table["replication"].iloc[0]))
        names = table["reported_model"].dropna().astype(str).str.casefold().str.split(";").explode()
        found.setdefault(model, Counter()).update(names)
    for model, versions in found.items():
        if len(versions) > 1:
            counts = ", ".join(
                f"{count} from '{name}'" for name, count in versions.most_common(NAMED)
            )
            yield from _whole_model(
                model,
                replications[model],
                study,
                f"{model}, {study.name}, all replications: versions of the model that answers come"
                f" from ({counts}): {len(versions)}, must be <= 1. Name one of them in `name`",
            )


def _whole_model(
    model: str, replications: Iterable[int], study: Study, reason: str
) -> Iterator[Failure]:
    """All replications of a model, refused for one reason."""
    for index in sorted(replications):
        yield Failure(
            model=model, replication=index, study=study.name, stage="merge", reason=reason
        )


def merge(
    structured: list[Path], probabilities: list[Path], study: Study, csv: Path, parquet: Path,
    people: Mapping[str, str] = MappingProxyType({}), stimuli: Path | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Write the study's analysis-ready table as CSV and Parquet; the table.

    The lists run over the same models and replications, in the same order; one may be empty.
    `people` are sources of the study that stand among language models, by name, and answer the
    trials of `stimuli`.
    """
    pairs = [
        (
            read_table(structured[index], study) if structured else None,
            read_table(probabilities[index], study) if probabilities else None,
        )
        for index in range(max(len(structured), len(probabilities)))
    ]
    if people and stimuli is not None:
        pairs += list(people_tables(pairs, study, people, read_trials(stimuli, study)))
    merged = pd.concat([analysis_ready(study, *pair) for pair in pairs], ignore_index=True)
    _write_csv(merged, csv)
    merged.to_parquet(parquet, index=False)
    return merged


def merge_methods(
    methods: list[Path], probabilities: list[Path], study: Study, table: Path
) -> None:
    """Write the study's analysis-ready table under every way of scoring.

    The lists run over the same models and replications; both are empty where experiment 2 was not
    asked.
    """
    _write_csv(
        methods_ready(
            study,
            (read_table(path, study) for path in methods),
            (read_table(path, study) for path in probabilities),
        ),
        table,
    )


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with replacing(path) as file:
        table.to_csv(cast("IO[str]", CsvLines(file)), index=False, lineterminator="\r\n")


if __name__ == "__main__":
    from grace.runs.scripting import job

    config = MergeConfig.model_validate(snakemake.params.output_config)
    study = study_of_job(snakemake.params.runtime["studies"][snakemake.wildcards.study])
    structured = [Path(path) for path in snakemake.input.get("structured", [])]
    probabilities = [Path(path) for path in snakemake.input.get("probabilities", [])]
    with job(snakemake, __file__):
        refuse_invalid(
            list(checked(structured, probabilities, study, config)),
            config.on_invalid,
            [
                *repeated_draws(structured, probabilities, study, config.decoding),
                *mixed_versions(structured, probabilities, study),
            ],
        )
        merged = merge(
            structured,
            probabilities,
            study,
            Path(snakemake.output.csv),
            Path(snakemake.output.parquet),
            config.people_models.get("sources", {}),
            Path(str(snakemake.input.stimuli)) if snakemake.input.get("stimuli") else None,
        )
        write_rows(
            Path(snakemake.output.codebook),
            (entry._asdict() for entry in codebook(study, merged.columns)),
            COLUMNS,
        )
        merge_methods(
            [Path(path) for path in snakemake.input.get("scoring_methods", [])],
            probabilities,
            study,
            Path(snakemake.output.scoring_methods),
        )
