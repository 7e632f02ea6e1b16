# Requires: the config; a connection to the hub, and HF_TOKEN for gated models.
# Makes:    no file of the project's; puts the models into HF_HOME (`snakemake prefetch`).


rule prefetch:
    log:
        "<logs>/prefetch.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        root=str(ROOT),
        what=what_is_fetched,
    message:
        "Fetch to HF_HOME: {params.what}"
    script:
        "../../scripts/prefetch.py"
