# Requires: results.
# Makes:    no file; says whether all results are what the workflow made (`snakemake verify`).
# Stops:    where one is not, with the first broken link of its chain.


rule verify:
    log:
        "<logs>/verify.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        results=PROJECT.config.results,
        root=str(ROOT),
        journal=f"{PROJECT.config.journal_dir}/journal",
    message:
        "Recompute the digests behind all results"
    script:
        "../../scripts/verify.py"
