# Requires: the stimuli, and the structured and probability tables of the replication.
# Makes:    validation.json: every check, its value, its threshold, the rows to review.


rule validate:
    input:
        stimuli=[PROJECT.stimuli_path(study) for study in PROJECT.config.studies],
        structured=if_asked("exp1", per_replication("{study}_structured.csv")),
        probabilities=if_asked("exp2", per_replication("{study}_probabilities.csv")),
    output:
        validation="<results>/{model}/replication-{replication}/validation.json",
    log:
        "<logs>/{model}/replication-{replication}/validate.log",
    conda:
        "../../envs/python.yaml"
    params:
        cell={**PROJECT.validation_cell(), "studies": PROJECT.config.studies},
        code=PROJECT.code("validation.py", "stimuli.py"),
    message:
        "Validate {wildcards.model}, replication {wildcards.replication}"
    script:
        "../../scripts/validate.py"
