# Requires: records and structured tables of experiment 1.
# Makes:    <results>/review/<study>.csv and .html, a sample of answers for a person to check
#           (`snakemake review_sheet`); agreement.csv there of the filled-in sheets
#           (`snakemake review_agreement`); the same for the report, where there are sheets.


rule review_sheet:
    log:
        "<logs>/review_sheet.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        results=PROJECT.config.results,
        runs=PROJECT.replications,
        studies=answered_studies(),
        answers=PROJECT.config.review.answers,
        seed=PROJECT.config.base_seed,
    message:
        "Write answers that a person is to check"
    script:
        "../../scripts/review.py"


rule review_agreement:
    log:
        "<logs>/review_agreement.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        results=PROJECT.config.results,
        runs=PROJECT.replications,
        studies=answered_studies(),
    message:
        "Compare what was read of answers with what a person says"
    script:
        "../../scripts/review.py"


rule reviewed:
    input:
        sheets=review_sheets,
        structured=over_run("exp1", "structured.csv"),
    output:
        table="<results>/analysis/review_agreement.csv",
    log:
        "<logs>/reviewed.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        output_config=reviewed_config,
        code=code_digest(OUTPUTS.code("reviewed.py")),
        sources=code_files(OUTPUTS.code("reviewed.py")),
        runtime=studies,
    message:
        "Compare what was read of answers with what the review sheets say"
    script:
        "../../scripts/reviewed.py"
