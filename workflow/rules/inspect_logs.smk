# Requires: nothing.
# Makes:    no file; shows logs of what failed or ended last (`snakemake inspect_logs`).


rule inspect_logs:
    log:
        "<logs>/inspect_logs.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        logs=f"{PROJECT.config.results}/logs",
    message:
        "Show the logs of what failed or ended last"
    script:
        "../../scripts/inspect_logs.py"
