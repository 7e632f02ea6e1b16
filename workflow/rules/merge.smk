# Requires: all tables and validations, and the reference data in resources/reference.
# Makes:    <results>/analysis-ready/: a study's table over models and replications (CSV and
#           Parquet), and the rows of people and of cognitive models beside it.
# Stops:    where a validation failed, unless `on_invalid: warn`.


rule merge:
    input:
        structured=if_asked("exp1", per_run("{study}_structured.csv")),
        probabilities=if_asked("exp2", per_run("{study}_probabilities.csv")),
        validations=per_run("validation.json"),
    output:
        csv="<results>/analysis-ready/{study}.csv",
        parquet="<results>/analysis-ready/{study}.parquet",
    log:
        "<logs>/{study}_merge.log",
    group:
        "report"
    conda:
        "../../envs/python.yaml"
    resources:
        inference=in_turn,
        mem_mb=memory("report"),
        runtime=JOBS["report"].minutes,
    params:
        cell=study_cell("merge"),
        code=table_code("merge.py"),
        runtime=studies,
    message:
        "Merge {wildcards.study} over models and replications"
    script:
        "../../scripts/merge.py"


rule reference:
    input:
        human=ancient("resources/reference/study2_human_cells.csv"),
        lexicon=ancient("resources/reference/politeness_lexicon.csv"),
        weights=ancient("resources/reference/politeness_weights.csv"),
    output:
        study1="<results>/analysis-ready/reference_study1.csv",
        study2="<results>/analysis-ready/reference_study2.csv",
    log:
        "<logs>/reference.log",
    group:
        "report"
    conda:
        "../../envs/python.yaml"
    resources:
        inference=in_turn,
        mem_mb=memory("report"),
        runtime=JOBS["report"].minutes,
    params:
        inputs=PROJECT.input_digests(
            "resources/reference/study2_human_cells.csv",
            "resources/reference/politeness_lexicon.csv",
            "resources/reference/politeness_weights.csv",
        ),
        code=PROJECT.code("reference.py"),
    message:
        "Compute the cognitive models' rows"
    script:
        "../../scripts/reference.py"
