# Requires: the study's stimuli CSV and the replication's plan.json.
# Makes:    <study>_exp2.json (records in the order asked) and provenance/<study>_exp2.json.
# Needs:    the model; one such job runs at a time on a machine (inference=1).


rule score:
    input:
        stimuli=stimuli,
        # What of the plan matters stands in the cell: a new plan alone makes nothing stale.
        plan=ancient("<results>/{model}/replication-{replication}/plan.json"),
    output:
        records="<results>/{model}/replication-{replication}/{study}_exp2.json",
        provenance="<results>/{model}/replication-{replication}/provenance/{study}_exp2.json",
    params:
        cell=experiment_cell("exp2"),
        code=experiment_code("exp2"),
        runtime=runtime,
    log:
        "<logs>/{model}/replication-{replication}/{study}_exp2.log",
    benchmark:
        "<benchmarks>/{model}/replication-{replication}/{study}_exp2.tsv"
    group:
        "inference"
    threads: inference_threads
    resources:
        inference=1,
        gpu=gpus,
    conda:
        "../../envs/python.yaml"
    message:
        "Measure {wildcards.study}'s distributions with {wildcards.model}, replication {wildcards.replication}"
    script:
        "../../scripts/score.py"
