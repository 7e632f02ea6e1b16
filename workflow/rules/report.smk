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
        inference=in_turn,
        mem_mb=memory("report"),
        runtime=STEPS["report"].minutes,
    params:
        cell={**STATISTICS, **PROJECT.analysis_cell()},
        failed=failed_before,
        code=report_code(),
        sections=report_sections,
        commit=commit_now,
        versions=versions_now,
    message:
        "Write the report"
    script:
        "../../scripts/report.R"
