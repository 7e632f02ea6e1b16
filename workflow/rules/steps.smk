# Functions only: the rules as the steps of `grace.steps`, and the files of a run.

import re

from grace import steps
from grace.steps import EXTRACTION, STEPS, RuleFacts

# The rules of this run by the names that they have in the workflow that uses them. Single rules may
# be used once more after all of them, which reads all of this again for the same results.
USED = vars(workflow).setdefault("grace_rules", {}).setdefault(PROJECT.config.results, {})
READ_AGAIN = bool(USED)


# Before a result that a function names. In a pod, a stored result has the name that it has without
# storage, and a path that Snakemake finds unchanged it does not take for a stored one.
AS_STORED = "./" if workflow.storage_settings.default_storage_provider else ""


def one_of(names):
    """A wildcard's pattern."""
    return "|".join(map(re.escape, names))


def check_steps():
    """Refuse what of the workflow the table of steps lacks, and a step that no file here makes."""
    found = {name: proxy.rule for name, proxy in rules._rules.items()}
    facts = {
        name: RuleFacts(made._group, frozenset(made.wildcard_names)) for name, made in found.items()
    }
    try:
        steps.check(facts, PROJECT.studies)
    except GraceError as error:
        raise WorkflowError(str(error)) from None
    for name, made in found.items():
        if workflow.is_rule(made.name) and workflow.get_rule(made.name) is made:
            USED[made.name] = name


def rule_of(job):
    """The name of a job's rule in Grace; None for a rule of the workflow that uses it."""
    return USED.get(job.rule.name)


def step_of(job):
    """The step that a job belongs to; None for one of the workflow that uses Grace."""
    return steps.of_rule(rule_of(job) or "")


def every_output(wildcards):
    """All files that the config asks for."""
    return sorted(
        {
            file
            for step in steps.in_run(PROJECT.stages)
            for name in step.rules(PROJECT.studies)
            for output in getattr(rules, name).output
            for study in step.studies(PROJECT.stages)
            for file in over_replications(plain_name(output).replace("{study}", study))
        }
    )


def over_replications(name):
    """A file of every model and replication, by one that names them as rules do."""
    if "{model}" not in name:
        return [name]
    return [
        name.format(model=model, replication=replication)
        for model, replication in PROJECT.replications
    ]


def traces_of_reasoning(wildcards):
    """The traces of models that reason before they are measured; none of any other."""
    return [
        file
        for output in rules.traces.output
        for model, replication in PROJECT.replications
        if PROJECT.models[model].thinks
        for file in expand(
            plain_name(output),
            model=model,
            replication=replication,
            study=studies_with("exp2"),
        )
    ]


def per_replication(name, experiment):
    """One file a study that has the experiment, of the same model and replication."""
    return expand(
        f"<results>/{{{{model}}}}/replication-{{{{replication}}}}/{name}",
        study=studies_with(experiment),
    )


def studies_with(experiment):
    """The studies of which the experiment is asked."""
    return [study for study, asked in PROJECT.stages.items() if experiment in asked]


def per_run(name):
    """One file a model and replication."""
    return expand(
        f"<results>/{{model}}/replication-{{replication}}/{name}",
        zip,
        model=[model for model, _ in PROJECT.replications],
        replication=[replication for _, replication in PROJECT.replications],
        allow_missing=True,
    )


def tables(experiment, name):
    """Such tables of a study over the run, if the experiment is asked of it."""

    def found(wildcards):
        asked = experiment in PROJECT.stages[wildcards.study]
        folder = f"{AS_STORED}{PROJECT.config.results}/{{model}}/replication-{{replication}}"
        return [
            f"{folder}/{wildcards.study}_{name}".format(model=model, replication=replication)
            for model, replication in PROJECT.replications
            if asked
        ]

    return found


def extracted(wildcards):
    """What a model read of a study's answers, where one is asked."""
    folder = f"{AS_STORED}{PROJECT.config.results}/{wildcards.model}"
    name = f"{folder}/replication-{wildcards.replication}/{wildcards.study}_extracted.json"
    return [name] if PROJECT.extraction.asks_model else []


def extractions(wildcards):
    """The counts of what models read, over the run; none where the rules read all."""
    return [
        f"{AS_STORED}{PROJECT.config.results}/{model}/replication-{replication}/{study}_extraction.json"
        for study in studies_with(EXTRACTION)
        for model, replication in PROJECT.replications
    ]


def answered_studies():
    """Where the studies lie whose answers are read."""
    jobs = PROJECT.study_jobs()
    return {study: jobs[study] for study in studies_with("exp1")}


def review_sheets(wildcards):
    """The review sheets that somebody had written, of studies whose answers are read."""
    paths = [f"{PROJECT.config.results}/review/{study}.csv" for study in studies_with("exp1")]
    return [path for path in paths if Path(path).exists()]


def review_agreements(wildcards):
    """What the review sheets say; nothing where there are none."""
    return list(rules.reviewed.output) if review_sheets(wildcards) else []


def over_run(experiment, name):
    """Files of all studies that have the experiment, over models and replications."""

    def found(wildcards):
        return [
            f"{AS_STORED}{PROJECT.config.results}/{model}/replication-{replication}/{study}_{name}"
            for study in studies_with(experiment)
            for model, replication in PROJECT.replications
        ]

    return found
