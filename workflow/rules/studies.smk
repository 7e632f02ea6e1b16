# Requires: nothing but the config, the studies' folders and the models' tokenisers.
# Makes:    no results: `snakemake check_study` shows what studies ask and read, and `snakemake
#           new_study --config name=my-study` writes a study to begin with.


rule check_study:
    log:
        "<logs>/check_study.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        root=str(ROOT),
    message:
        "Check the configured studies"
    script:
        "../../scripts/check_study.py"


rule new_study:
    log:
        "<logs>/new_study.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        name=PROJECT.config.name,
    message:
        "Write a study to begin with"
    script:
        "../../scripts/new_study.py"
