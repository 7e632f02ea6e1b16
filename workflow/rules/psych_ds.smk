# Requires: the studies' tables and codebooks.
# Makes:    <results>/export/psych-ds, a dataset of Psych-DS (`snakemake psych_ds`). Written anew
#           each time.


rule psych_ds:
    input:
        tables=expand("<results>/analysis-ready/{study}.csv", study=list(PROJECT.studies)),
        codebooks=expand(
            "<results>/analysis-ready/codebook_{study}.csv", study=list(PROJECT.studies)
        ),
    log:
        "<logs>/psych_ds.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        studies={
            name: {"title": study.title, "cite": list(study.declaration.cite)}
            for name, study in PROJECT.studies.items()
        },
        models=list(dict.fromkeys(model for model, _ in PROJECT.replications)),
        code=code_digest(OUTPUTS.code("psych_ds.py")),
        sources=code_files(OUTPUTS.code("psych_ds.py")),
    message:
        "Write the tables as a dataset of Psych-DS"
    script:
        "../../scripts/psych_ds.py"
