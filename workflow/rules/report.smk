# Requires: every table and figure of the analysis, and all metadata and validations.
# Makes:    <results>/report.html, one file that a browser opens without the others.


rule report:
    input:
        tables_study1=if_studied("study1", rules.analysis_study1.output, ".csv"),
        figures_study1=if_studied("study1", rules.analysis_study1.output, ".png"),
        tables_study2=if_studied("study2", rules.analysis_study2.output, ".csv"),
        figures_study2=if_studied("study2", rules.analysis_study2.output, ".png"),
        metadata=per_run("metadata.json"),
        validation=per_run("validation.json"),
    output:
        "<results>/report.html",
    log:
        "<logs>/report.log",
    group:
        "report"
    conda:
        "../../envs/r.yaml"
    resources:
        inference=serialize_on_cluster,
        mem_mb=memory("report"),
        runtime=JOBS["report"].minutes,
    params:
        output_config=OUTPUTS.analysis().model_dump(),
        failed=failed_before,
        code=code_digest(report_code()),
        sources=code_files(report_code()),
        commit=commit_now,
        versions=versions_now,
    message:
        "Write the report"
    script:
        "../../scripts/report.R"
