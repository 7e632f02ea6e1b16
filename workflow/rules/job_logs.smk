# Requires: nothing.
# Makes:    no file; shows logs of what failed or ended last (`snakemake job_logs`).


rule job_logs:
    log:
        "<logs>/job_logs.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        logs=f"{PROJECT.config.results}/logs",
    message:
        "Show the logs of what failed or ended last"
    script:
        "../../scripts/job_logs.py"


# Its name until version 0.1; Inspect is also a tool for evaluations, with logs of its own.
use rule job_logs as inspect_logs with:
    log:
        "<logs>/inspect_logs.log",
    message:
        "Show the logs of what failed or ended last (`snakemake job_logs`; this name goes with the next release)"
