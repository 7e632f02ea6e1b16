# Requires: the structured and probability tables of the replication.
# Makes:    validation.json: every check, its value, its threshold, the rows to review.


rule validate:
    input:
        structured=if_asked("exp1", per_replication("{study}_structured.csv")),
        probabilities=if_asked("exp2", per_replication("{study}_probabilities.csv")),
    output:
        validation="<results>/{model}/replication-{replication}/validation.json",
    log:
        "<logs>/{model}/replication-{replication}/validate.log",
    group:
        "tables"
    conda:
        "../../envs/python.yaml"
    resources:
        inference=in_turn,
        mem_mb=memory("tables"),
        runtime=JOBS["tables"].minutes,
    params:
        cell=validation_cell,
        code=PROJECT.code("validate.py"),
        runtime=studies,
    message:
        "Validate {wildcards.model}, replication {wildcards.replication}"
    script:
        "../../scripts/validate.py"
