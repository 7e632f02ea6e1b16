# Requires: the tables and records of all replications, and the rows of people and cognitive models.
# Makes:    <results>/trials.html, the trial browser: one file that opens without a server.


rule trial_browser:
    input:
        structured=over_run("exp1", "structured.csv"),
        exp1=over_run("exp1", "exp1.json"),
        probabilities=over_run("exp2", "probabilities.csv"),
        exp2=over_run("exp2", "exp2.json"),
        reference=expand(
            "<results>/analysis-ready/reference_{study}.csv", study=list(PROJECT.studies)
        ),
    output:
        "<results>/trials.html",
    log:
        "<logs>/trial_browser.log",
    group:
        "report"
    conda:
        "../../envs/python.yaml"
    resources:
        inference=serialize_on_cluster,
        mem_mb=memory("trial_browser"),
        runtime=STEPS["trial_browser"].minutes,
    params:
        output_config=trial_browser_config(),
        code=code_digest(OUTPUTS.trial_browser_code()),
        sources=code_files(OUTPUTS.trial_browser_code()),
        runtime=studies,
    message:
        "Write the trial browser"
    script:
        "../../scripts/trial_browser.py"
