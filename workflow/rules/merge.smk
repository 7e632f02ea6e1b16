# Requires: all tables, and the people's data and models that studies declare.
# Makes:    <results>/analysis-ready/: a study's table over models and replications (CSV and
#           Parquet), what its columns hold, the same under every way of scoring, and the rows of people and of cognitive
#           models beside it.
# Stops:    where a validation failed, unless `on_invalid: warn`.


rule merge:
    input:
        structured=tables("exp1", "structured.csv"),
        probabilities=tables("exp2", "probabilities.csv"),
        stimuli=ancient(stimuli_of_people),
        scoring_methods=tables("exp2", "scoring_methods.csv"),
    output:
        csv="<results>/analysis-ready/{study}.csv",
        parquet="<results>/analysis-ready/{study}.parquet",
        scoring_methods="<results>/analysis-ready/scoring_methods_{study}.csv",
        codebook="<results>/analysis-ready/codebook_{study}.csv",
    log:
        "<logs>/{study}_merge.log",
    group:
        "report"
    conda:
        "../../envs/python.yaml"
    resources:
        inference=serialize_on_cluster,
        mem_mb=memory("merge"),
        runtime=STEPS["merge"].minutes,
    params:
        output_config=study_config("merge"),
        code=code_digest(table_code("merge.py")),
        sources=code_files(table_code("merge.py")),
        runtime=studies,
    message:
        "Merge {wildcards.study} over models and replications"
    script:
        "../../scripts/merge.py"


rule reference:
    input:
        files=ancient(reference_files),
    output:
        table="<results>/analysis-ready/reference_{study}.csv",
    log:
        "<logs>/{study}_reference.log",
    group:
        "report"
    conda:
        "../../envs/python.yaml"
    resources:
        inference=serialize_on_cluster,
        mem_mb=memory("reference"),
        runtime=STEPS["reference"].minutes,
    params:
        output_config=study_config("reference"),
        code=code_digest(OUTPUTS.code("reference.py")),
        sources=code_files(OUTPUTS.code("reference.py")),
        runtime=studies,
    message:
        "Compute the rows of people and cognitive models of {wildcards.study}"
    script:
        "../../scripts/reference.py"
