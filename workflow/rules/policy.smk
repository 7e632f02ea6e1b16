# Requires: nothing but the config.
# Makes:    no file; shows the pods of the run and each rule's verdict (`snakemake policy`).
# Stops:    before any job where a model fits no GPU, or a rule of the cluster is broken.

from grace.cluster import indexed, policy, table
from grace.scripting import show


def stop_where_policy_is_broken(jobs):
    """For `policy` and `manifests` alone; Snakemake tells of a job that fails three times over."""
    names = {job.rule.name for job in jobs}
    try:
        if "policy" in names:
            verdicts = table.verdicts(PROJECT)
            if policy.broken(verdicts):
                show(table.text(PROJECT), f"{PROJECT.config.results}/logs/policy.log")
        elif "manifests" in names:
            verdicts = table.verdicts(PROJECT)
            assert all(indexed.text(PROJECT, model) for model in PROJECT.models)
        else:
            verdicts = []
        policy.refuse(verdicts, PROJECT.config.cluster, submitting=False)
    except GraceError as error:
        raise WorkflowError(str(error)) from None


rule policy:
    log:
        "<logs>/policy.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        root=str(ROOT),
    message:
        "Hold the pods of the configured run against the rules of cluster {PROJECT.config.cluster}"
    script:
        "../../scripts/policy.py"
