# Requires: every table and figure of the analysis, all metadata and validations, and what review sheets say.
# Makes:    <results>/report.html, one file that a browser opens without the others.


rule report:
    input:
        **tables_of_report(),
        **figures_of_report(),
        metadata=per_run("metadata.json"),
        validation=per_run("validation.json"),
        extraction=extractions,
        contamination=contamination_reports,
        review=review_agreements,
        trainings=training_results,
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
        runtime=STEPS["report"].minutes,
    params:
        output_config=r_params(report_config()),
        failed=failed_before,
        code=code_digest(report_code()),
        sources=code_files(r_params(report_code())),
        sections=report_sections,
        commit=commit_now,
        versions=versions_now,
    message:
        "Write the report"
    script:
        "../../scripts/report.R"
