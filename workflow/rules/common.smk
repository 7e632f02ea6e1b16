# Functions only: the checked project, the params that make outputs stale, and lists of files.
# Everything that needs no Snakemake object is in workflow/lib/grace.

from functools import cache

from snakemake.exceptions import WorkflowError

import grace
from grace.cluster.run.storage import plain_name
from grace.errors import GraceError
from grace.models.weights import announced
from grace.places import input_name
from grace.provenance.environment import git_state, versions
from grace.settings.outputs import Outputs
from grace.settings.project import Project


def checked_project():
    """The project, or Snakemake's own error with our message and no traceback."""
    try:
        project = Project(ROOT, config)
        project.check()
    except GraceError as error:
        raise WorkflowError(str(error)) from None
    return project


PROJECT = checked_project()
# Jobs get the config as it stands here, and records name files in the folder as it is called.
config["results"] = PROJECT.config.results
OUTPUTS = Outputs(PROJECT)


def plan_config(wildcards):
    return OUTPUTS.plan(wildcards.model, int(wildcards.replication)).model_dump()


def experiment_config(experiment):
    return lambda wildcards: OUTPUTS.experiment(
        wildcards.model, int(wildcards.replication), wildcards.study, experiment
    ).model_dump()


def code_digest(code):
    """What Snakemake records of the code behind an output: a digest in which no path is.

    `code` is what is behind it, or a function of wildcards that says it.
    """
    return lambda wildcards: (code(wildcards) if callable(code) else code)["digest"]


def code_files(code):
    """The same with its files, which the job digests and records; Snakemake records none."""
    return lambda wildcards, threads: code(wildcards) if callable(code) else code


def experiment_code(experiment):
    return lambda wildcards: OUTPUTS.experiment_code(wildcards.model, wildcards.study, experiment)


@cache
def validation_of(model):
    return OUTPUTS.validation(model).model_dump()


def validation_config(wildcards):
    return validation_of(wildcards.model)


def reviewed_config(wildcards):
    return OUTPUTS.reviewed().model_dump()


def trial_browser_config():
    return OUTPUTS.trial_browser().model_dump()


def table_code(script):
    return lambda wildcards: OUTPUTS.table_code(script, wildcards.study)


def runtime(wildcards, threads):
    """Settings that change no byte of an output.

    A param function that takes `threads` is not recorded, so editing these reruns nothing.
    """
    shared = PROJECT.sharing(wildcards.model)
    approvals = PROJECT.approvals_before(wildcards.model)
    wanted = {**PROJECT.wanted, **({"approvals": approvals} if approvals else {})}
    return {
        **({"sharing": shared} if shared else {}),
        **machine(wildcards, threads),
        "entry": PROJECT.models[wildcards.model].model_dump(),
        "wanted": wanted,
    }


def study_config(kind):
    """The output configuration of a study's own outputs, which are the same for thousands of jobs."""
    of_study = cache(lambda study: getattr(OUTPUTS, kind)(study).model_dump())
    return lambda wildcards: of_study(wildcards.study)


def studies(wildcards, threads):
    """Where the studies lie; what is declared counts in `output_config`."""
    return {"studies": machine_settings()["studies"]}


@cache
def machine_settings():
    """What of `machine` all jobs share."""
    settings = PROJECT.config
    return {
        "studies": PROJECT.study_jobs(),
        "requests": settings.requests.model_dump(),
        "scoring": settings.scoring.model_dump(),
        "serving": settings.serving.model_dump(),
        "root": str(ROOT),
        "journal_dir": settings.journal_dir,
        "journal_timeout_s": settings.journal_timeout_s,
    }


def machine(wildcards, threads):
    """Settings of this machine and run that a job which computes with a model needs."""
    logs = f"{PROJECT.config.results}/logs"
    return {
        **machine_settings(),
        "log_dir": f"{logs}/{wildcards.model}/replication-{wildcards.replication}",
        "threads": threads,
    }


def extraction_runtime(wildcards, threads):
    """What a job needs to ask the model that reads answers; what changes a reading is recorded."""
    reader = PROJECT.reader
    own = {"entry": reader.entry.model_dump(), "planned": dict(reader.config)} if reader else {}
    return {
        **machine(wildcards, threads),
        "extraction": PROJECT.extraction.model_dump(),
        **own,
    }


def extraction_code(wildcards):
    return OUTPUTS.extraction_code(wildcards.study)


def reference_files(wildcards):
    """What people and models of people are made from, as rules read it."""
    return PROJECT.reference_files(wildcards.study)


def stimuli(wildcards):
    return PROJECT.stimuli_path(wildcards.study)


def stimuli_of_people(wildcards):
    """The stimuli, where people or models of people stand among the language models."""
    return stimuli(wildcards) if PROJECT.people_models_of(wildcards.study) else []


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
    found = {name: version for name, version in versions().items() if version}
    return {"grace": grace.__version__, **found}


def what_is_fetched(wildcards):
    """The configured models, and how much they are."""
    try:
        return announced(PROJECT.models, ROOT)
    except GraceError as error:
        raise WorkflowError(str(error)) from None


def pico_prompts(wildcards, threads):
    """The prompts that it is trained on."""
    return str(ROOT / "config" / "prompts" / "seed")
