# Requires: nothing but the config.
# Makes:    <results>/manifests/<model>.yaml, an Indexed Job each, for clusters where Snakemake may
#           not submit (`snakemake manifests`). Written anew each time.
# Stops:    where a model fits no GPU, or a rule of the cluster is broken.


rule manifests:
    log:
        "<logs>/manifests.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        root=str(ROOT),
    message:
        "Write a Job for each model, for cluster {PROJECT.config.cluster}"
    script:
        "../../scripts/manifests.py"
