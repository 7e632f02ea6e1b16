rule train_pico:
    output:
        "x",
    log:
        "<logs>/x.log",
    conda:
        "../../envs/python.yaml"
    shell:
        "x"
