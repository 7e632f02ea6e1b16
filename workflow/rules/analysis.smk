# Requires: the analysis-ready tables and the reference rows.
# Makes:    <results>/analysis/: what each study declares, a CSV table for every analysis, and the
#           figures as PNG, SVG and PDF, each with what it shows as CSV. A rule for every study, since each makes other files.


for study in PROJECT.studies:

    rule:
        name:
            f"analysis_{study}"
        input:
            **analysis_inputs(study),
            ready=f"<results>/analysis-ready/{study}.csv",
            reference=f"<results>/analysis-ready/reference_{study}.csv",
            scoring_methods=f"<results>/analysis-ready/scoring_methods_{study}.csv",
        output:
            **analysis_tables(study),
            **analysis_figures(study),
        log:
            f"<logs>/analysis_{study}.log",
        group:
            "report"
        conda:
            "../../envs/r.yaml"
        resources:
            inference=serialize_on_cluster,
            mem_mb=memory("analysis"),
            runtime=STEPS["analysis"].minutes,
        params:
            output_config=r_params(analysis_config(study)),
            inputs=analysis_input_digests(study),
            code=code_digest(analysis_code(study)),
            sources=code_files(r_params(analysis_code(study))),
        message:
            f"Analyse {study}"
        script:
            "../../scripts/analysis.R"
