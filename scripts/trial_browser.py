"""The trial browser: every trial of a run, in one page that opens without a server."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from grace.results.records import replacing
from grace.settings.output_configs import TrialBrowserConfig
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study
from grace.trial_browser.page import page
from grace.trial_browser.study_data import ReplicationFiles, StudyData, StudyFiles, study_data


def trial_browser(
    scripts: Path,
    studies: Mapping[str, Study],
    files: Mapping[str, StudyFiles],
    config: TrialBrowserConfig,
    output: Path,
) -> None:
    """Write trials.html. Raises `RecordError` where tables and records differ."""

    def read() -> Iterator[StudyData]:
        for name, study in studies.items():
            found = study_data(study, files[name])
            logging.info("%s: %d answers", name, found.about["rows"])
            yield found

    with replacing(output) as file:
        file.writelines(page(scripts, read(), config.origins, config.models))
    logging.info("%s: %.1f MB", output, output.stat().st_size / 1e6)


def by_study(
    names: Iterable[str], given: Mapping[str, Sequence[str]], reference: Sequence[str]
) -> dict[str, StudyFiles]:
    """A job's inputs by study; each list runs over the same models and replications."""

    def pairs(name: str, kind: str, tables: str) -> list[ReplicationFiles]:
        both = zip(given.get(tables, []), given.get(kind, []), strict=True)
        return [
            ReplicationFiles(Path(table), Path(records))
            for table, records in both
            if Path(records).name == f"{name}_{kind}.json"
        ]

    return {
        name: StudyFiles(
            pairs(name, "exp1", "structured"),
            pairs(name, "exp2", "probabilities"),
            next(Path(path) for path in reference if Path(path).stem == f"reference_{name}"),
        )
        for name in names
    }


if __name__ == "__main__":
    from grace.runs.scripting import job

    config = TrialBrowserConfig.model_validate(snakemake.params.output_config)
    jobs = snakemake.params.runtime["studies"]
    with job(snakemake, __file__):
        trial_browser(
            Path(__file__).parent,
            {name: study_of_job(jobs[name]) for name in config.studies},
            by_study(config.studies, snakemake.input, list(snakemake.input.reference)),
            config,
            Path(snakemake.output[0]),
        )
