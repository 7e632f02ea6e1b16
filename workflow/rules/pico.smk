# Requires: the seed prompts and the simulated people in workflow/lib/grace/pico.
# Makes:    resources/models/pico, the bundled model; only when asked for (`snakemake train_pico`).


rule train_pico:
    output:
        config="resources/models/pico/config.json",
        generation="resources/models/pico/generation_config.json",
        model="resources/models/pico/model.safetensors",
        tokenizer="resources/models/pico/tokenizer.json",
        tokenizer_config="resources/models/pico/tokenizer_config.json",
        record="resources/models/pico/training.json",
    log:
        "<logs>/train_pico.log",
    benchmark:
        "<benchmarks>/train_pico.tsv"
    conda:
        "../../envs/python.yaml"
    threads: 2
    resources:
        mem_mb=memory("train_pico"),
        runtime=STEPS["train_pico"].minutes,
    params:
        # A function: what it reads, every start of Snakemake would pay for.
        output_config=lambda _: OUTPUTS.pico().model_dump(),
        code=code_digest(OUTPUTS.code("train_pico.py")),
        sources=code_files(OUTPUTS.code("train_pico.py")),
        prompts=pico_prompts,
    message:
        "Train pico: about 40 minutes on two cores"
    script:
        "../../scripts/train_pico.py"
