# Functions only: what follows where jobs of a model failed. The report does not wait for that model:
# the run goes on without it (grace.runs.continuation), and ends as a failed one, with the reason.

import json
import subprocess
import time

from grace.runs import continuation
from grace.runs.continuation import Failure

STARTED = time.time()
# Where Snakemake keeps its state; at the end of the process this is no longer its folder.
STATE = Path(".snakemake").absolute()
# Failures of this process, and how it is to go on: files to rebuild, or None for not at all.
FAILED = []
GOING_ON = {"forced": None}
# Seconds that the checks of all models before the first job may take.
CHECKS_S = 300


def needs_model(job):
    """Whether a job that fails would fail in the model's other replications, too."""
    step = step_of(job)
    return step is not None and step.model


def check_models_first(jobs):
    """Where several models are to be asked on this machine, check all before any is.

    What is wrong with one is reported here, at once, and again where it stops that model's own jobs.
    """
    asking = [job for job in jobs if needs_model(job)]
    models = {job.wildcards.model: job for job in asking}
    if on_cluster() or workflow.touch or len(models) < 2:
        return
    planned = {job.wildcards.model for job in asking if rule_of(job) == "plan"}
    requests = [
        {
            "model": PROJECT.model_configs[model],
            "runtime": runtime(job.wildcards, threads=1),
            # An engine whose plan is there was checked with it, and may not be needed; a checkpoint
            # may have to be trained first.
            "engine": model in planned and PROJECT.models[model].trained is None,
        }
        for model, job in models.items()
    ]
    main = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        " from grace.experiments.preflight import main; main()"
    )
    try:
        # In a process of its own: torch is large, and this one lives as long as the run.
        subprocess.run(
            [sys.executable, "-P", "-c", main, str(ROOT / "workflow" / "lib")],
            input=json.dumps(requests),
            text=True,
            check=False,
            timeout=CHECKS_S,
        )
    except subprocess.TimeoutExpired:
        print(
            f"The models' checks took more than {CHECKS_S} s; each is checked in its own job.",
            file=sys.stderr,
        )


def note_failures():
    """After a failed run: whose jobs failed, and whether the run is to go on without."""
    if not workflow.is_main_process:
        return
    scheduler = workflow.scheduler
    known = {failure.what for failure in PROJECT.failed}
    rest_is_whole = True
    for job in scheduler.failed:
        members = list(job.jobs) if job.is_group() else [job]
        if step_of(members[0]) and "model" in members[0].wildcards_dict:
            FAILED.append(failure_of(job, members))
        elif found := failed_trainings(job, members):
            told = {failure.what for failure in FAILED}
            FAILED.extend(failure for failure in found if failure.what not in told)
        elif found := refused_by(job, members):
            known = {failure.what for failure in FAILED}  # by the merge of another study
            FAILED.extend(failure for failure in found if failure.what not in known)
        else:
            rest_is_whole = False
    if not workflow.execution_settings.keep_going:
        FAILED.extend(given_up())
    failed = {failure.what for failure in FAILED}
    ended_by_itself = not (scheduler.running or scheduler._user_kill or scheduler._executor_error)
    unfinished = list(workflow.dag.needrun_jobs())
    if (
        rest_is_whole
        and ended_by_itself
        and failed
        and not failed & known
        and set(PROJECT.replications) - failed
        and any(not {"model", "recipe"} & job.wildcards_dict.keys() for job in unfinished)
        and continuation.started_by_command(sys.argv[0])
    ):
        GOING_ON["forced"] = forced_still(unfinished, failed)


def reason_of(job, members):
    """Which of a group of jobs failed, or the job itself, and why: in its log's or pod's words."""
    words, log = getattr(workflow.scheduler._executor, "last_words", {}).get(job, (None, None))
    logs = [(one, Path(str(path))) for one in members for path in one.log]
    reasons = [(one, continuation.reason_in(path, STARTED)) for one, path in logs]
    culprit, reason = next(((one, why) for one, why in reasons if why), (members[0], None))
    if reason is None and log is not None:
        reason = continuation.reason_in(log)
    return culprit, reason or words or f"it ended without a reason in its log, {culprit.log[0]}"


def failed_trainings(job, members):
    """The models that a failed step of a recipe leaves without their checkpoint; none otherwise."""
    step = step_of(members[0])
    if step is None or not step.of_recipe:
        return []
    culprit, reason = reason_of(job, members)
    seed, number = (int(culprit.wildcards_dict.get(key, 0)) for key in ("training_seed", "round"))
    models = PROJECT.models_behind(culprit.wildcards.recipe, rule_of(culprit), seed, number)
    return [
        Failure(
            model=model,
            replication=replication,
            stage=rule_of(culprit),
            reason=f"recipe '{culprit.wildcards.recipe}': {reason}",
        )
        for model, replication in PROJECT.replications
        if model in models
    ]


def failure_of(job, members):
    """Why a job failed, or a group of them in a pod."""
    culprit, reason = reason_of(job, members)
    study = culprit.wildcards_dict.get("study")
    return Failure(
        model=culprit.wildcards.model,
        replication=int(culprit.wildcards.replication),
        study=study,
        experiment=step_of(culprit).experiment if needs_model(culprit) else None,
        stage=rule_of(culprit),
        reason=reason,
    )


def refused_by(job, members):
    """The replications that a failed merge refused; none where it failed otherwise."""
    _, log = getattr(workflow.scheduler._executor, "last_words", {}).get(job, (None, None))
    logs = [Path(str(path)) for one in members if rule_of(one) == "merge" for path in one.log]
    found = [failure for path in logs for failure in continuation.refusals_in(path, STARTED)]
    return found or (continuation.refusals_in(log) if log is not None else [])


def given_up():
    """Replications of a model that were not asked, because another of its own had failed."""
    asked = {step.name for step in STEPS.values() if step.model}
    models = {failure.model: failure for failure in FAILED if failure.stage in asked}
    failed = {failure.what for failure in FAILED}
    unfinished = {
        (job.wildcards.model, int(job.wildcards.replication))
        for job in workflow.dag.needrun_jobs()
        if needs_model(job)
    }
    return [
        Failure(
            model=model,
            replication=replication,
            stage=continuation.NOT_ASKED,
            reason=f"replication {models[model].replication} had failed",
        )
        for model, replication in sorted(unfinished - failed)
        if model in models
    ]


def forced_still(jobs, failed):
    """Files that the command line asks to rebuild, of jobs that were not reached."""
    asked = workflow.dag_settings
    if not (asked.forceall or asked.forcetargets or asked.forcerun):
        return []
    return [
        plain_name(file)
        for job in jobs
        if (job.wildcards_dict.get("model"), int(job.wildcards_dict.get("replication", -1)))
        not in failed
        for file in job.output
    ]


def failed_before(wildcards):
    """What the report says is not in it, as JSON."""
    return r_params(continuation.encoded(PROJECT.failed))


def go_on_or_tell():
    """At the very end, when Snakemake has let go of its folder."""
    if not workflow.is_main_process:
        return
    failures = [*PROJECT.failed, *FAILED]
    if GOING_ON["forced"] is not None:
        continuation.go_on(failures, GOING_ON["forced"], STATE, sys.argv[1:])
    if failures:
        summary = continuation.summary(failures, went_on=bool(PROJECT.failed))
        print(f"\n{summary}", file=sys.stderr)
