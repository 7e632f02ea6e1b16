# Requires: plan.json and the provenance of every experiment of the replication.
# Makes:    metadata.json: seeds, timestamps, hardware, versions, configuration, commit.


rule collect:
    input:
        plan="<results>/{model}/replication-{replication}/plan.json",
        exp1=per_replication("provenance/{study}_exp1.json", "exp1"),
        exp2=per_replication("provenance/{study}_exp2.json", "exp2"),
    output:
        metadata="<results>/{model}/replication-{replication}/metadata.json",
    log:
        "<logs>/{model}/replication-{replication}/collect.log",
    group:
        "inference"
    conda:
        "../../envs/python.yaml"
    resources:
        mem_mb=memory("collect"),
        runtime=STEPS["collect"].minutes,
    params:
        code=code_digest(OUTPUTS.code("collect.py")),
        sources=code_files(OUTPUTS.code("collect.py")),
    message:
        "Collect the metadata of {wildcards.model}, replication {wildcards.replication}"
    script:
        "../../scripts/collect.py"
