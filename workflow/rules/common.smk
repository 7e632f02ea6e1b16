# Functions only: the checked project, the params that make outputs stale, and lists of files.
# Everything that needs no Snakemake object is in workflow/lib/grace.

import shutil
import sys
from pathlib import Path

from snakemake import exceptions
from snakemake.exceptions import LockException, WorkflowError

from grace.cluster.storage import plain_name
from grace.errors import GraceError
from grace.runs.holders import hold
from grace.runs.leftovers import remove_partials
from grace.settings.project import Project
from grace.places import input_name
from grace.provenance.environment import git_state, versions
from grace.runs.startup import begin, check_writable, end_orphans, in_use
from grace.results.usable import refuse_without_usable_answer
from grace.models.weights import announced


def checked_project():
    """The project, or Snakemake's own error with our message and no traceback."""
    try:
        project = Project(ROOT, config)
        project.check()
    except GraceError as error:
        raise WorkflowError(str(error)) from None
    return project


PROJECT = checked_project()


# A run that was killed leaves a lock, which would be in this one's way.
if workflow.is_main_process:
    for line in begin(Path(".snakemake")):
        print(line, file=sys.stderr)


class FolderInUse(LockException):
    """Says who holds the folder; Snakemake's own advises to remove the lock, who ever holds it."""

    def __init__(self):
        WorkflowError.__init__(self, in_use(Path(".snakemake")))


exceptions.LockException = FolderInUse


def end_what_was_left_running():
    """Before any job: what a killed run had started would write the same outputs."""
    hold(Path(".snakemake"), sys.argv)
    for line in end_orphans(Path(".snakemake")):
        print(line, file=sys.stderr)
    remove_partials(Path(PROJECT.config.results))


def stop_where_nothing_can_be_written():
    """Stop before any job; Snakemake itself would end in a traceback."""
    try:
        check_writable("results", Path(PROJECT.config.results))
        check_writable("journal_dir", Path(PROJECT.config.journal_dir))
    except GraceError as error:
        raise WorkflowError(str(error)) from None


def stop_without_r(jobs):
    """Stop before any job if one of them needs R and there is none; pods have an image's."""
    if on_cluster():
        return
    needs_r = any(str(job.rule.script or "").endswith(".R") for job in jobs if job.rule.script)
    if needs_r and shutil.which("Rscript") is None:
        raise WorkflowError(
            "R is missing: no `Rscript` on the PATH, and this run ends in R's statistics. Install"
            " it with `make setup` (Debian, Ubuntu), or use the conda environment envs/r.yaml"
            " (`snakemake --software-deployment-method conda`)."
        )


def tell_unrecorded(dag):
    """Warn of results that are kept although Snakemake has no record of how they were made.

    A dry-run says so of itself, and so does a run that has nothing to do.
    """
    unrecorded = [job for job in dag.jobs if dag.reason(job).no_metadata and not dag.needrun(job)]
    if unrecorded:
        print(
            f"Warning: {len(unrecorded)} jobs have results but no record in .snakemake/metadata. A"
            " change of config or code since then is not noticed (docs/staleness.md).",
            file=sys.stderr,
        )


def fail_without_usable_answer(dag):
    """After a run that has its report: if no model has a usable answer, the run has failed.

    The report says so itself. It is another job's output than what fails here, so that it stays.
    """
    reports = [job for job in dag.jobs if rule_of(job) == "report"]
    tables = [
        Path(plain_name(file))
        for job in reports
        for file in job.input
        if plain_name(file).endswith("_quality.csv")
    ]
    if not all(path.exists() for path in tables):
        print(
            "Warning: the results are elsewhere, so that whether any model has a usable answer was"
            " not looked at. The report says so in its first lines if none has.",
            file=sys.stderr,
        )
    elif reports:
        try:
            refuse_without_usable_answer(tables, Path(plain_name(reports[0].output[0])))
        except GraceError as error:
            raise WorkflowError(str(error)) from None


def tell_forecast():
    """At the end of a dry-run that would compute with models, say how much that is.

    And whether the cluster's rules allow it. Dry-runs have no hook of their own: `onstart` is for
    runs alone.
    """
    if not (workflow.is_main_process and workflow.dryrun and workflow.dag):
        return
    if on_cluster():
        try:
            refuse_what_breaks_policy(workflow.dag.needrun_jobs(exclude_finished=False))
        except GraceError as error:
            print(f"\n{error}", file=sys.stderr)
    if workflow.output_settings.quiet:
        return
    runs = {}
    for job in workflow.dag.needrun_jobs(exclude_finished=False):
        step = step_of(job)
        if step and step.asks:
            key = (job.wildcards.study, step.experiment)
            runs[key] = runs.get(key, 0) + 1
    if runs:
        from grace.experiments.forecast import dry_run

        print(f"\n{dry_run(PROJECT, runs)}", file=sys.stderr)


def plan_cell(wildcards):
    return PROJECT.plan_cell(wildcards.model, int(wildcards.replication))


def experiment_cell(experiment):
    return lambda wildcards: PROJECT.experiment_cell(
        wildcards.model, int(wildcards.replication), wildcards.study, experiment
    )


def experiment_code(experiment):
    return lambda wildcards: PROJECT.experiment_code(wildcards.model, wildcards.study, experiment)


def validation_cell(wildcards):
    return PROJECT.validation_cell(wildcards.model)


def table_code(script):
    return lambda wildcards: PROJECT.table_code(script, wildcards.study)


def runtime(wildcards, threads):
    """Settings that change no byte of an output.

    A param function that takes `threads` is not recorded, so editing these reruns nothing.
    """
    settings = PROJECT.config
    return {
        "studies": PROJECT.study_jobs(),
        "requests": settings.requests.model_dump(),
        "scoring": settings.scoring.model_dump(),
        "serving": settings.serving.model_dump(),
        "entry": PROJECT.models[wildcards.model].model_dump(),
        "wanted": PROJECT.wanted,
        "root": str(ROOT),
        "journal_dir": settings.journal_dir,
        "journal_timeout_s": settings.journal_timeout_s,
        "log_dir": f"{settings.results}/logs/{wildcards.model}/replication-{wildcards.replication}",
        "threads": threads,
    }


def study_cell(kind):
    return lambda wildcards: getattr(PROJECT, f"{kind}_cell")(wildcards.study)


def studies(wildcards, threads):
    """Where the studies lie; what is declared counts in `cell`."""
    return {"studies": PROJECT.study_jobs()}


def reference_files(wildcards):
    """What people and models of people are made from, as rules read it."""
    return PROJECT.reference_files(wildcards.study)


def stimuli(wildcards):
    return PROJECT.stimuli_path(wildcards.study)


def resource(name):
    """A file that comes with the workflow, as rules read it."""
    return input_name(f"resources/{name}", ROOT)


def commit_now(wildcards, threads):
    """The commit that writes the report; not recorded, or every commit would write it anew."""
    return git_state(ROOT)["commit"] or ""


def commit_archived(wildcards):
    """The commit whose code is archived; recorded, so that each has an archive of its own."""
    return git_state(ROOT)


def versions_now(wildcards, threads):
    """Versions of the software that writes the report; not recorded either."""
    return {name: version for name, version in versions().items() if version}


def what_is_fetched(wildcards):
    """The configured models, and how much they are."""
    try:
        return announced(PROJECT.models, ROOT)
    except GraceError as error:
        raise WorkflowError(str(error)) from None


def pico_prompts(wildcards, threads):
    """The prompts that it is trained on."""
    return str(ROOT / "config" / "prompts" / "seed")
