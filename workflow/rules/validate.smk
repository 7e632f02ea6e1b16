# Requires: the structured and probability tables of the replication, its experiments' provenance, and the
#           review sheets that there are.
# Makes:    validation.json: every check, its value, its threshold, the rows to review.


rule validate:
    input:
        structured=per_replication("{study}_structured.csv", "exp1"),
        probabilities=per_replication("{study}_probabilities.csv", "exp2"),
        exp1=per_replication("provenance/{study}_exp1.json", "exp1"),
        exp2=per_replication("provenance/{study}_exp2.json", "exp2"),
        reviews=review_sheets,
    output:
        validation="<results>/{model}/replication-{replication}/validation.json",
    log:
        "<logs>/{model}/replication-{replication}/validate.log",
    group:
        "tables"
    conda:
        "../../envs/python.yaml"
    resources:
        inference=serialize_on_cluster,
        mem_mb=memory("validate"),
        runtime=STEPS["validate"].minutes,
    params:
        output_config=validation_config,
        code=code_digest(OUTPUTS.code("validate.py")),
        sources=code_files(OUTPUTS.code("validate.py")),
        runtime=studies,
    message:
        "Validate {wildcards.model}, replication {wildcards.replication}"
    script:
        "../../scripts/validate.py"
