# Requires: the tables, records and metadata of all replications, and the rows of people.
# Makes:    <results>/export/inspect, logs for Inspect, and <results>/export/every-eval-ever, records
#           of Every Eval Ever (`snakemake inspect_export`). Written anew each time.


rule inspect_export:
    input:
        structured=over_run("exp1", "structured.csv"),
        exp1=over_run("exp1", "exp1.json"),
        probabilities=over_run("exp2", "probabilities.csv"),
        exp2=over_run("exp2", "exp2.json"),
        metadata=per_run("metadata.json"),
        reference=expand(
            "<results>/analysis-ready/reference_{study}.csv", study=list(PROJECT.studies)
        ),
    log:
        "<logs>/inspect_export.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        code=code_digest(OUTPUTS.code("inspect_export.py")),
        sources=code_files(OUTPUTS.code("inspect_export.py")),
        runtime=studies,
    message:
        "Write Inspect logs and records of Every Eval Ever"
    script:
        "../../scripts/inspect_export.py"
