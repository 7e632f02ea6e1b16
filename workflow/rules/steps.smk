# Functions only: the rules as the steps of `grace.steps`, and the files of a run.

import re

from grace import steps
from grace.settings.config import STUDIES
from grace.steps import STEPS, RuleFacts

# The rules of this run by the names that they have in the workflow that uses them. Single rules may
# be used once more after all of them, which reads all of this again for the same results.
USED = vars(workflow).setdefault("grace_rules", {}).setdefault(PROJECT.config.results, {})
READ_AGAIN = bool(USED)


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
        steps.check(facts, STUDIES)
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
            for step in steps.in_run(PROJECT.config.experiments)
            for name in step.rules(PROJECT.config.studies)
            for output in getattr(rules, name).output
            for model, replication in PROJECT.replications
            for file in expand(
                plain_name(output),
                model=model,
                replication=replication,
                study=PROJECT.config.studies,
            )
        }
    )


def per_replication(name):
    """One file a study of the same model and replication."""
    return expand(
        f"<results>/{{{{model}}}}/replication-{{{{replication}}}}/{name}",
        study=PROJECT.config.studies,
    )


def per_run(name):
    """One file a model and replication."""
    return expand(
        f"<results>/{{model}}/replication-{{replication}}/{name}",
        zip,
        model=[model for model, _ in PROJECT.replications],
        replication=[replication for _, replication in PROJECT.replications],
        allow_missing=True,
    )


def if_studied(study, files, suffix):
    """Those of the files that end so, if the config asks for the study that they are about."""
    asked = study in PROJECT.config.studies
    return [plain_name(file) for file in files if asked and plain_name(file).endswith(suffix)]


def if_asked(experiment, files):
    """The files, if the config asks for the experiment that makes them."""
    return files if experiment in PROJECT.config.experiments else []
