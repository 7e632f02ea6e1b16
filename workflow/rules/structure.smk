# Requires: <study>_raw_responses.csv.
# Makes:    <study>_structured.csv: every raw row with its parsed answer and quality flags.


rule structure:
    input:
        raw="<results>/{model}/replication-{replication}/{study}_raw_responses.csv",
    output:
        table="<results>/{model}/replication-{replication}/{study}_structured.csv",
    log:
        "<logs>/{model}/replication-{replication}/{study}_structure.log",
    group:
        "tables"
    conda:
        "../../envs/python.yaml"
    resources:
        inference=in_turn,
        mem_mb=memory("structure"),
        runtime=STEPS["structure"].minutes,
    params:
        cell=study_cell("structure"),
        code=table_code("structure.py"),
        runtime=studies,
    message:
        "Parse {wildcards.study}'s answers of {wildcards.model}"
    script:
        "../../scripts/structure.py"
