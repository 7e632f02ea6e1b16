"""Check a replication's tables against the number of trials and the thresholds."""

import logging
from collections.abc import Mapping
from pathlib import Path

from grace.results.records import read_json, write_json
from grace.results.run_checks import check_rereadings, check_review, check_sentinels
from grace.results.validation import Check, read_checked, report, study_checks
from grace.settings.output_configs import ValidationConfig
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study


def validate(
    studies: Mapping[str, Study],
    structured: Mapping[str, Path],
    probabilities: Mapping[str, Path],
    provenance: Mapping[str, Path],
    reviews: Mapping[str, Path],
    output: Path,
    model_key: str,
    replication: int,
    config: ValidationConfig,
) -> None:
    """Write validation.json and log every failed check. The files are given by study.

    `provenance` is each experiment's, by labels such as `study1_exp2`; `reviews` are the review
    sheets that there are.
    """
    checks: list[Check] = []
    for name, trials in config.trials.items():
        found_in = (structured.get(name), probabilities.get(name))
        answers, measured = (None if path is None else read_checked(path) for path in found_in)
        checks += study_checks(
            studies[name],
            answers,
            measured,
            expected=trials * len(config.variants),
            thresholds=config.thresholds,
            decoding=config.decoding,
            answers_as=config.answers_as,
        )
        if name in reviews and found_in[0] is not None:
            checks += check_review(studies[name], reviews[name], found_in[0], config.min_agreement)
        for experiment in ("exp1", "exp2"):
            path = provenance.get(f"{name}_{experiment}")
            run = {} if path is None else read_json(path)
            checks += check_rereadings(run.get("rereadings"), name)
            checks += check_sentinels(run.get("sentinels"), name, experiment)
    found = report(model_key, replication, checks)
    for line in found.failures():
        logging.warning("%s", line)
    if found.passed:
        logging.info("all %d checks passed", len(found.checks))
    write_json(output, found.model_dump())


if __name__ == "__main__":
    from grace.runs.scripting import job

    config = ValidationConfig.model_validate(snakemake.params.output_config)

    def by_study(files: list[str], ending: str) -> dict[str, Path]:
        """The files by study; one may lack an experiment."""
        return {Path(path).name.removesuffix(ending): Path(path) for path in files}

    with job(snakemake, __file__):
        validate(
            {
                name: study_of_job(snakemake.params.runtime["studies"][name])
                for name in config.trials
            },
            by_study(snakemake.input.get("structured", []), "_structured.csv"),
            by_study(snakemake.input.get("probabilities", []), "_probabilities.csv"),
            {
                Path(path).stem: Path(path)
                for name in ("exp1", "exp2")
                for path in snakemake.input.get(name, [])
            },
            by_study(snakemake.input.get("reviews", []), ".csv"),
            Path(snakemake.output.validation),
            snakemake.wildcards.model,
            int(snakemake.wildcards.replication),
            config,
        )
