# Requires: nothing but the config.
# Makes:    no file; shows the pods of the run and each rule's verdict (`snakemake policy`).
# Stops:    before any job where a model fits no GPU, or a rule of the cluster is broken.


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
