# Requires: the trained adapters of a recipe, their data, and the notes of its steps in `journal_dir`.
# Makes:    <results>/training/<recipe>/costs.json and costs.csv; beside each adapter README.md, its
#           model card.


rule training_costs:
    input:
        adapters=trained_records,
        evaluations=evaluations,
    output:
        costs="<results>/training/{recipe}/costs.json",
        table="<results>/training/{recipe}/costs.csv",
    log:
        "<logs>/training/{recipe}/costs.log",
    conda:
        "../../envs/python.yaml"
    resources:
        mem_mb=memory("training_costs"),
        runtime=STEPS["training_costs"].minutes,
    params:
        output_config=costs_config,
        code=code_digest(training_code("training_costs.py")),
        sources=code_files(training_code("training_costs.py")),
        runtime=costs_runtime,
    message:
        "Sum up what recipe {wildcards.recipe} has cost"
    script:
        "../../scripts/training_costs.py"


rule model_card:
    input:
        adapter=trained_files_of,
        data=data_trained_on,
        costs="<results>/training/{recipe}/costs.json",
        rates=rates_of_evaluation,
    output:
        card="<results>/training/{recipe}/seed-{training_seed}/{stage}/README.md",
    log:
        "<logs>/training/{recipe}/seed-{training_seed}/{stage}_card.log",
    conda:
        "../../envs/python.yaml"
    resources:
        mem_mb=memory("model_card"),
        runtime=STEPS["model_card"].minutes,
    params:
        output_config=card_config,
        code=code_digest(training_code("model_card.py")),
        sources=code_files(training_code("model_card.py")),
    message:
        "Write the model card of {wildcards.recipe}.{wildcards.stage}-{wildcards.training_seed}"
    script:
        "../../scripts/model_card.py"
