# Requires: nothing but the config, the stimuli and the models' tokenisers.
# Makes:    no file; shows how much the run would ask for (`snakemake forecast`).


rule forecast:
    log:
        "<logs>/forecast.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        root=str(ROOT),
    message:
        "Count what the configured run would ask for, in one replication"
    script:
        "../../scripts/forecast.py"
