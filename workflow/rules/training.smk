# Requires: config/recipes.yaml, its constitution and bank of instructions, and the base's files.
# Makes:    <results>/training/<recipe>/: instructions, answers and judgements of the base, a sample to
#           read, rows of SFT; below seed-<n>/ the SFT adapter, its candidates, pairs, the DPO adapter;
#           below seed-<n>/round-<k>/ the same of a round, whose adapter is in seed-<n>/online<k>/.
# Stops:    at each decision point of the recipe (`snakemake approve`); where training text is among
#           evaluation items or stimuli; where nothing is left to train on.


rule instructions:
    input:
        before=adapter_before,
    output:
        rows="<results>/training/{recipe}/instructions.json",
        report="<results>/training/{recipe}/instructions_report.json",
    log:
        "<logs>/training/{recipe}/instructions.log",
    benchmark:
        "<benchmarks>/training/{recipe}/instructions.tsv"
    group:
        "training_data"
    conda:
        "../../envs/python.yaml"
    threads: training_threads
    resources:
        inference=1,
        gpu=gpus_of_step("instructions"),
        mem_mb=memory_of_step("instructions"),
        disk_mb=DISK_MB,
        runtime=minutes_of_step("instructions"),
    params:
        output_config=step_config("instructions"),
        code=code_digest(asking_code("instructions.py", "base", "exp1")),
        sources=code_files(asking_code("instructions.py", "base", "exp1")),
        runtime=training_runtime(step="instructions"),
    message:
        "Gather the instructions of recipe {wildcards.recipe}"
    script:
        "../../scripts/instructions.py"


rule answers:
    input:
        rows="<results>/training/{recipe}/instructions.json",
        adapter=adapter_before,
    output:
        answers="<results>/training/{recipe}/answers.json",
    log:
        "<logs>/training/{recipe}/answers.log",
    benchmark:
        "<benchmarks>/training/{recipe}/answers.tsv"
    group:
        "training_data"
    conda:
        "../../envs/python.yaml"
    threads: training_threads
    resources:
        inference=1,
        gpu=gpus_of_step("answers"),
        mem_mb=memory_of_step("answers"),
        disk_mb=DISK_MB,
        runtime=minutes_of_step("answers"),
    params:
        output_config=step_config("answers"),
        code=code_digest(asking_code("answers.py", "base", "exp1")),
        sources=code_files(asking_code("answers.py", "base", "exp1")),
        runtime=training_runtime(step="answers"),
    message:
        "Let the base answer the instructions of recipe {wildcards.recipe}"
    script:
        "../../scripts/answers.py"


rule judge:
    input:
        rows="<results>/training/{recipe}/answers.json",
        before=adapter_before,
    output:
        judged="<results>/training/{recipe}/judged.json",
    log:
        "<logs>/training/{recipe}/judge.log",
    benchmark:
        "<benchmarks>/training/{recipe}/judge.tsv"
    group:
        "training_data"
    conda:
        "../../envs/python.yaml"
    threads: training_threads
    resources:
        inference=1,
        gpu=gpus_of_step("judge"),
        mem_mb=memory_of_step("judge"),
        disk_mb=DISK_MB,
        runtime=minutes_of_step("judge"),
    params:
        output_config=step_config("judge"),
        code=code_digest(asking_code("judge.py", "base", "exp2")),
        sources=code_files(asking_code("judge.py", "base", "exp2")),
        runtime=training_runtime(step="judge"),
    message:
        "Let the base judge its answers in recipe {wildcards.recipe}"
    script:
        "../../scripts/judge.py"


rule sample:
    input:
        rows="<results>/training/{recipe}/judged.json",
    output:
        sample="<results>/training/{recipe}/sample.json",
        page="<results>/training/{recipe}/sample.html",
    log:
        "<logs>/training/{recipe}/sample.log",
    conda:
        "../../envs/python.yaml"
    resources:
        mem_mb=memory("sample"),
        runtime=STEPS["sample"].minutes,
    params:
        output_config=step_config("sample"),
        code=code_digest(training_code("sample.py")),
        sources=code_files(training_code("sample.py")),
        runtime=training_runtime(),
    message:
        "Draw a sample of judged answers of recipe {wildcards.recipe} for a person to read"
    script:
        "../../scripts/sample.py"


rule select:
    input:
        rows="<results>/training/{recipe}/judged.json",
        instructions="<results>/training/{recipe}/instructions.json",
        sample="<results>/training/{recipe}/sample.json",
    output:
        rows="<results>/training/{recipe}/sft.parquet",
        report="<results>/training/{recipe}/selection.json",
    log:
        "<logs>/training/{recipe}/select.log",
    conda:
        "../../envs/python.yaml"
    resources:
        mem_mb=memory("select"),
        runtime=STEPS["select"].minutes,
    params:
        output_config=step_config("select"),
        code=code_digest(training_code("select_rows.py")),
        sources=code_files(training_code("select_rows.py")),
        runtime=training_runtime(gate="sample"),
    message:
        "Select the answers that recipe {wildcards.recipe} trains on"
    script:
        "../../scripts/select_rows.py"


rule sft:
    input:
        rows="<results>/training/{recipe}/sft.parquet",
        adapter=adapter_before,
    output:
        **trained_files("sft"),
    log:
        "<logs>/training/{recipe}/seed-{training_seed}/sft.log",
    benchmark:
        "<benchmarks>/training/{recipe}/seed-{training_seed}/sft.tsv"
    conda:
        "../../envs/python.yaml"
    threads: training_threads
    resources:
        inference=1,
        gpu=gpus_of_step("sft"),
        mem_mb=memory_of_step("sft"),
        disk_mb=DISK_MB,
        runtime=minutes_of_step("sft"),
    params:
        output_config=train_config("sft"),
        code=code_digest(TRAININGS.training_code()),
        sources=code_files(TRAININGS.training_code()),
        runtime=training_runtime(step="sft"),
    message:
        "Train {wildcards.recipe}.sft-{wildcards.training_seed}"
    script:
        "../../scripts/train.py"


rule candidates:
    input:
        rows="<results>/training/{recipe}/instructions.json",
        adapter=adapter_of_stage(SFT),
    output:
        answers="<results>/training/{recipe}/seed-{training_seed}/candidates.json",
    log:
        "<logs>/training/{recipe}/seed-{training_seed}/candidates.log",
    benchmark:
        "<benchmarks>/training/{recipe}/seed-{training_seed}/candidates.tsv"
    group:
        "training_pairs"
    conda:
        "../../envs/python.yaml"
    threads: training_threads
    resources:
        inference=1,
        gpu=gpus_of_step("candidates"),
        mem_mb=memory_of_step("candidates"),
        disk_mb=DISK_MB,
        runtime=minutes_of_step("candidates"),
    params:
        output_config=stage_config("candidates"),
        code=code_digest(asking_code("answers.py", "before", "exp1")),
        sources=code_files(asking_code("answers.py", "before", "exp1")),
        runtime=training_runtime("before", step="candidates"),
    message:
        "Sample candidates of {wildcards.recipe}.sft-{wildcards.training_seed}"
    script:
        "../../scripts/answers.py"


rule judge_pairs:
    input:
        rows="<results>/training/{recipe}/seed-{training_seed}/candidates.json",
        before=adapter_before,
    output:
        judged="<results>/training/{recipe}/seed-{training_seed}/judged.json",
    log:
        "<logs>/training/{recipe}/seed-{training_seed}/judge_pairs.log",
    benchmark:
        "<benchmarks>/training/{recipe}/seed-{training_seed}/judge_pairs.tsv"
    group:
        "training_pairs"
    conda:
        "../../envs/python.yaml"
    threads: training_threads
    resources:
        inference=1,
        gpu=gpus_of_step("judge_pairs"),
        mem_mb=memory_of_step("judge_pairs"),
        disk_mb=DISK_MB,
        runtime=minutes_of_step("judge_pairs"),
    params:
        output_config=step_config("judge"),
        code=code_digest(asking_code("judge.py", "base", "exp2")),
        sources=code_files(asking_code("judge.py", "base", "exp2")),
        runtime=training_runtime(step="judge_pairs"),
    message:
        "Let the base judge the candidates of {wildcards.recipe}.sft-{wildcards.training_seed}"
    script:
        "../../scripts/judge.py"


rule pairs:
    input:
        rows="<results>/training/{recipe}/seed-{training_seed}/judged.json",
        instructions="<results>/training/{recipe}/instructions.json",
    output:
        rows="<results>/training/{recipe}/seed-{training_seed}/dpo.parquet",
        report="<results>/training/{recipe}/seed-{training_seed}/pairs.json",
        page="<results>/training/{recipe}/seed-{training_seed}/pairs.html",
    log:
        "<logs>/training/{recipe}/seed-{training_seed}/pairs.log",
    conda:
        "../../envs/python.yaml"
    resources:
        mem_mb=memory("pairs"),
        runtime=STEPS["pairs"].minutes,
    params:
        output_config=stage_config("pairs"),
        code=code_digest(training_code("pairs.py")),
        sources=code_files(training_code("pairs.py")),
        runtime=training_runtime(),
    message:
        "Pair the candidates of {wildcards.recipe}.sft-{wildcards.training_seed}"
    script:
        "../../scripts/pairs.py"


rule dpo:
    input:
        rows="<results>/training/{recipe}/seed-{training_seed}/dpo.parquet",
        adapter=adapter_of_stage(SFT),
        report="<results>/training/{recipe}/seed-{training_seed}/pairs.json",
    output:
        **trained_files("dpo"),
    log:
        "<logs>/training/{recipe}/seed-{training_seed}/dpo.log",
    benchmark:
        "<benchmarks>/training/{recipe}/seed-{training_seed}/dpo.tsv"
    conda:
        "../../envs/python.yaml"
    threads: training_threads
    resources:
        inference=1,
        gpu=gpus_of_step("dpo"),
        mem_mb=memory_of_step("dpo"),
        disk_mb=DISK_MB,
        runtime=minutes_of_step("dpo"),
    params:
        output_config=train_config("dpo"),
        code=code_digest(TRAININGS.training_code()),
        sources=code_files(TRAININGS.training_code()),
        runtime=training_runtime(gate="pairs", step="dpo"),
    message:
        "Train {wildcards.recipe}.dpo-{wildcards.training_seed}"
    script:
        "../../scripts/train.py"


# A round is the four steps before it once more, with the checkpoint that it begins with.
use rule candidates as online_candidates with:
    input:
        rows="<results>/training/{recipe}/instructions.json",
        adapter=adapter_before_stage,
    output:
        answers="<results>/training/{recipe}/seed-{training_seed}/round-{round}/candidates.json",
    log:
        "<logs>/training/{recipe}/seed-{training_seed}/round-{round}/candidates.log",
    benchmark:
        "<benchmarks>/training/{recipe}/seed-{training_seed}/round-{round}/candidates.tsv"
    group:
        "training_round"
    params:
        runtime=training_runtime("before", step="online_candidates"),
    message:
        "Sample candidates of {wildcards.recipe} for round {wildcards.round} of seed"
        " {wildcards.training_seed}"


use rule judge_pairs as online_judge with:
    input:
        rows="<results>/training/{recipe}/seed-{training_seed}/round-{round}/candidates.json",
        before=adapter_before,
    output:
        judged="<results>/training/{recipe}/seed-{training_seed}/round-{round}/judged.json",
    log:
        "<logs>/training/{recipe}/seed-{training_seed}/round-{round}/judge.log",
    benchmark:
        "<benchmarks>/training/{recipe}/seed-{training_seed}/round-{round}/judge.tsv"
    group:
        "training_round"
    params:
        runtime=training_runtime(step="online_judge"),
    message:
        "Let the base judge the candidates of {wildcards.recipe} in round {wildcards.round} of seed"
        " {wildcards.training_seed}"


use rule pairs as online_pairs with:
    input:
        rows="<results>/training/{recipe}/seed-{training_seed}/round-{round}/judged.json",
        instructions="<results>/training/{recipe}/instructions.json",
    output:
        rows="<results>/training/{recipe}/seed-{training_seed}/round-{round}/dpo.parquet",
        report="<results>/training/{recipe}/seed-{training_seed}/round-{round}/pairs.json",
        page="<results>/training/{recipe}/seed-{training_seed}/round-{round}/pairs.html",
    log:
        "<logs>/training/{recipe}/seed-{training_seed}/round-{round}/pairs.log",
    message:
        "Pair the candidates of {wildcards.recipe} in round {wildcards.round} of seed"
        " {wildcards.training_seed}"


use rule dpo as online_dpo with:
    input:
        rows="<results>/training/{recipe}/seed-{training_seed}/round-{round}/dpo.parquet",
        adapter=adapter_before_stage,
        report="<results>/training/{recipe}/seed-{training_seed}/round-{round}/pairs.json",
    output:
        **trained_files("online{round}"),
    log:
        "<logs>/training/{recipe}/seed-{training_seed}/online{round}.log",
    benchmark:
        "<benchmarks>/training/{recipe}/seed-{training_seed}/online{round}.tsv"
    params:
        output_config=train_config(),
        runtime=training_runtime(gate="pairs", step="online_dpo"),
    message:
        "Train {wildcards.recipe}.online{wildcards.round}-{wildcards.training_seed}"


rule evaluate:
    input:
        rows="<results>/training/{recipe}/instructions.json",
        adapter=adapter_evaluated,
        trained=trained_before,
    output:
        answers="<results>/training/{recipe}/evaluation/{evaluated}.json",
    log:
        "<logs>/training/{recipe}/evaluation/{evaluated}.log",
    benchmark:
        "<benchmarks>/training/{recipe}/evaluation/{evaluated}.tsv"
    conda:
        "../../envs/python.yaml"
    threads: training_threads
    resources:
        inference=1,
        gpu=gpus_of_step("evaluate"),
        mem_mb=memory_of_step("evaluate"),
        disk_mb=DISK_MB,
        runtime=minutes_of_step("evaluate"),
    params:
        output_config=evaluate_config,
        code=code_digest(asking_code("evaluate.py", "evaluated", "exp1")),
        sources=code_files(asking_code("evaluate.py", "evaluated", "exp1")),
        runtime=training_runtime("evaluated", step="evaluate"),
    message:
        "Evaluate {wildcards.evaluated} of recipe {wildcards.recipe} on held-out instructions"
    script:
        "../../scripts/evaluate.py"


rule compare:
    input:
        evaluations=evaluations,
        curves=training_curves,
    output:
        **comparison_figures(),
        rates="<results>/training/{recipe}/evaluation/rates.csv",
        tests="<results>/training/{recipe}/evaluation/tests.csv",
        seeds="<results>/training/{recipe}/evaluation/seeds.csv",
        errors="<results>/training/{recipe}/evaluation/errors.csv",
        losses="<results>/training/{recipe}/evaluation/losses.csv",
    log:
        "<logs>/training/{recipe}/compare.log",
    conda:
        "../../envs/r.yaml"
    resources:
        mem_mb=memory("compare"),
        runtime=STEPS["compare"].minutes,
    params:
        output_config=lambda wildcards: r_params(TRAININGS.compare(wildcards.recipe).model_dump()),
        code=code_digest(TRAININGS.compare_code()),
        sources=code_files(r_params(TRAININGS.compare_code())),
    message:
        "Compare the checkpoints of recipe {wildcards.recipe}"
    script:
        "../../scripts/compare.R"


rule contamination:
    input:
        instructions="<results>/training/{recipe}/instructions.json",
        texts=training_texts,
        stimuli=ancient(stimuli_files),
    output:
        report="<results>/training/{recipe}/contamination.json",
    log:
        "<logs>/training/{recipe}/contamination.log",
    conda:
        "../../envs/python.yaml"
    resources:
        mem_mb=memory("contamination"),
        runtime=STEPS["contamination"].minutes,
    params:
        output_config=step_config("contamination"),
        code=code_digest(training_code("contamination.py")),
        sources=code_files(training_code("contamination.py")),
        runtime=training_runtime(),
    message:
        "Compare the training text of recipe {wildcards.recipe} with evaluation items and stimuli"
    script:
        "../../scripts/contamination.py"


rule ifeval_export:
    input:
        evaluations=all_evaluations(),
    log:
        "<logs>/ifeval_export.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        checks=checks_of_recipes(),
    message:
        "Write evaluations as lm-evaluation-harness's ifeval takes them"
    script:
        "../../scripts/ifeval_export.py"


rule approve:
    log:
        "<logs>/approve.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        approvals=approvals_asked(),
        gate=PROJECT.config.gate,
        note=PROJECT.config.note,
        recipes=list(PROJECT.trainings),
    message:
        "Approve what waits at a decision point"
    script:
        "../../scripts/approve.py"
