# Functions only: what is looked at and said before and after a run, and at the end of a dry-run.

import os
import shutil
import sys
from pathlib import Path

from snakemake import exceptions
from snakemake import script as job_scripts
from snakemake.exceptions import LockException, WorkflowError

from grace.cluster.run.storage import plain_name
from grace.errors import GraceError
from grace.r_params import a_line_each
from grace.results.ending import ending
from grace.results.usable import refuse_without_usable_answer
from grace.runs.holders import hold
from grace.runs.large_dags import adapt_scheduling
from grace.runs.leftovers import remove_partials
from grace.runs.startup import begin, check_writable, end_orphans, in_use
from grace.settings.extraction import check_key
from grace.terminal.place import take_place
from grace.terminal.plan import PlannedJob
from grace.terminal.reasons import words


def planned_jobs():
    """The jobs that this run needs, as it shows them; `all` does nothing itself."""
    needed = workflow.dag.needrun_jobs(exclude_finished=False)
    return [planned(job) for job in needed if rule_of(job) != "all"]


def planned(job):
    """One of them. Its model, or recipe, and which of their runs are among its wildcards."""
    step, rule = step_of(job), rule_of(job) or job.rule.name
    found = job.wildcards_dict
    name = step.name if step else rule
    study = rule.removeprefix(f"{name}_") if step and step.rule_per_study else found.get("study")
    which = [found.get(key) for key in ("replication", "training_seed", "evaluated")]
    return PlannedJob(
        jobid=job.jobid,
        step=name,
        of=found.get("model", found.get("recipe")),
        which=next((value for value in which if value is not None), ""),
        study=study,
        round=found.get("round", ""),
        recipe="recipe" in found,
        # What runs on request, beside the results, and what is somebody else's.
        speaks=step is None or not (step.group or step.wildcards or name == "reviewed"),
        message=job.message or "",
        reason=words(workflow.dag.reason(job)),
    )


# Before anything else is said.
if workflow.is_main_process:
    take_place(workflow.logger_manager, planned_jobs)

# A run that was killed leaves a lock, which would be in this one's way.
if workflow.is_main_process:
    for line in begin(Path(".snakemake")):
        print(line, file=sys.stderr)


class FolderInUse(LockException):
    """Says who holds the folder; Snakemake's own advises to remove the lock, who ever holds it."""

    def __init__(self):
        WorkflowError.__init__(self, in_use(Path(".snakemake")))


exceptions.LockException = FolderInUse
adapt_scheduling()
# What jobs in R read: paths may hold letters that R misreads in long lines.
job_scripts.REncoder = a_line_each(job_scripts.REncoder)


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


def stop_without_extraction_key(jobs):
    """Stop before any job if a model is to read answers and the key of its API is not set."""
    if any(rule_of(job) == "extract" for job in jobs):
        try:
            check_key(PROJECT.extraction, os.environ)
        except GraceError as error:
            raise WorkflowError(str(error)) from None


def recipe_jobs(jobs):
    """The steps of recipes among jobs that take time: recipe, step and training seed."""
    found = []
    for job in jobs:
        step = step_of(job)
        if step and step.trains:
            seed = job.wildcards_dict.get("training_seed")
            name = named_step(step.name, job.wildcards_dict)
            found.append((job.wildcards.recipe, name, int(seed) if seed else None))
    return found


def stop_beyond_budget(jobs):
    """Stop before any job where a recipe is forecast to take more than its budget."""
    training = recipe_jobs(jobs)
    if not training or workflow.touch:
        return
    from grace.forecast.recipe_forecast import refuse_beyond_budget

    try:
        refuse_beyond_budget(PROJECT, training)
    except GraceError as error:
        raise WorkflowError(str(error)) from None


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


def fail_without_usable_answer():
    """After a run that has its report: if no model has a usable answer, the run has failed.

    The report says so itself. It is another job's output than what fails here, so that it stays.
    Otherwise the run's last lines name what there is to open.
    """
    if workflow.dryrun or workflow.execution_settings.no_hooks:
        return
    dag = workflow.dag
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
            page = Path(plain_name(reports[0].output[0]))
            refuse_without_usable_answer(tables, page)
        except GraceError as error:
            raise WorkflowError(str(error)) from None
        if not workflow.output_settings.quiet:
            last_lines = ending(tables, page, page.with_name("trials.html"))
            print(f"\n{last_lines}", file=sys.stderr)


def tell_forecast():
    """At the end of a dry-run that would compute with models, say how much that is.

    And whether the cluster's rules allow it. Dry-runs have no hook of their own: `onstart` is for
    runs alone.
    """
    if not (workflow.is_main_process and workflow.dryrun and workflow.dag):
        return
    needed = list(workflow.dag.needrun_jobs(exclude_finished=False))
    try:
        stop_without_extraction_key(needed)
    except WorkflowError as error:
        print(f"\n{error}", file=sys.stderr)
    if on_cluster():
        try:
            refuse_what_breaks_policy(needed)
        except GraceError as error:
            print(f"\n{error}", file=sys.stderr)
    if workflow.output_settings.quiet:
        return
    asking = [
        (job.wildcards.model, int(job.wildcards.replication), job.wildcards.study, step.experiment)
        for job in needed
        if (step := step_of(job)) and step.asks
    ]
    if asking:
        from grace.forecast.preview import preview

        print(f"\n{preview(PROJECT, asking)}", file=sys.stderr)
    if training := recipe_jobs(needed):
        from grace.forecast.recipe_forecast import preview as preview_of_recipes

        print(preview_of_recipes(PROJECT, training), file=sys.stderr)
