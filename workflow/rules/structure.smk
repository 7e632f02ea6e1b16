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
        inference=serialize_on_cluster,
        mem_mb=memory("tables"),
        runtime=JOBS["tables"].minutes,
    params:
        output_config=OUTPUTS.structure().model_dump(),
        code=code_digest(table_code("structure.py")),
        sources=code_files(table_code("structure.py")),
    message:
        "Parse {wildcards.study}'s answers of {wildcards.model}"
    script:
        "../../scripts/structure.py"
