"""A run's answers as Inspect evaluation logs and as records of Every Eval Ever."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from grace.export import every_eval_ever, inspect_log
from grace.export.facts import export_facts
from grace.export.samples import generated, measured, people_of
from grace.studies.catalogue import study_of_job
from grace.studies.study import Study

INSPECT, EVERY_EVAL_EVER = "inspect", "every-eval-ever"


def inspect_export(
    studies: Mapping[str, Study],
    files: Mapping[str, Sequence[tuple[Path, Path]]],
    references: Mapping[str, Path],
    output: Path,
) -> None:
    """Write both below `output`, in place of what stood there.

    `files` holds by experiment each replication's table and records; metadata.json lies beside
    them. `references` are the tables of people, by study.
    """
    for name in (INSPECT, EVERY_EVAL_EVER):
        if (output / name).exists():
            shutil.rmtree(output / name)
        (output / name).mkdir(parents=True)
    logs = 0
    for name, study in studies.items():
        people = people_of(study, references[name])
        for experiment, read in (("exp1", generated), ("exp2", measured)):
            for table, records in files[experiment]:
                if records.name != f"{name}_{experiment}.json":
                    continue
                samples = list(read(study, table, records, people))
                facts = export_facts(
                    name, study.title, experiment, records, records.parent / "metadata.json"
                )
                log = output / INSPECT / inspect_log.file_name(facts)
                inspect_log.write_log(log, facts, samples)
                every_eval_ever.write_records(output / EVERY_EVAL_EVER, facts, samples)
                logging.info(
                    "%s, %s, replication %d: %d samples", facts.name, facts.model_key,
                    facts.replication, len(samples),
                )  # fmt: skip
                logs += 1
    logging.info(
        "%d logs in %s (`inspect view --log-dir` shows them) and as many records in %s; see"
        " docs/export.md", logs, output / INSPECT, output / EVERY_EVAL_EVER,
    )  # fmt: skip


if __name__ == "__main__":
    from grace.runs.scripting import job

    given = snakemake.input
    with job(snakemake, __file__):
        inspect_export(
            {
                name: study_of_job(told)
                for name, told in snakemake.params.runtime["studies"].items()
            },
            {
                kind: [
                    (Path(table), Path(records))
                    for table, records in zip(
                        given.get(tables, []), given.get(kind, []), strict=True
                    )
                ]
                for kind, tables in (("exp1", "structured"), ("exp2", "probabilities"))
            },
            {Path(path).stem.removeprefix("reference_"): Path(path) for path in given.reference},
            Path(given.reference[0]).parents[1] / "export",
        )
