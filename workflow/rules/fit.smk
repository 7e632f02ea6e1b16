# Requires: a study's analysis-ready table, and the people's data and models that it declares.
# Makes:    <results>/analysis/<study>_fits.csv: the parameters of cognitive models that each
#           language model's answers give; without rows where none is declared to be fitted so.


rule fit:
    input:
        ready="<results>/analysis-ready/{study}.parquet",
        files=ancient(reference_files),
    output:
        table="<results>/analysis/{study}_fits.csv",
    log:
        "<logs>/{study}_fit.log",
    group:
        "report"
    conda:
        "../../envs/python.yaml"
    resources:
        inference=serialize_on_cluster,
        mem_mb=memory("fit"),
        runtime=STEPS["fit"].minutes,
    params:
        output_config=study_config("fit"),
        code=code_digest(OUTPUTS.code("fit.py")),
        sources=code_files(OUTPUTS.code("fit.py")),
        runtime=studies,
    message:
        "Fit the cognitive models of {wildcards.study} to every model"
    script:
        "../../scripts/fit.py"
