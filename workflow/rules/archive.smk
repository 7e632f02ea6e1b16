# Requires: the report, and with it the whole run; the trial browser; a git checkout.
# Makes:    <results>/grace-crate.zip, a Provenance Run Crate; only when asked for.
# Stops:    where a result is not intact.


rule archive:
    input:
        report="<results>/report.html",
        trials="<results>/trials.html",
    output:
        crate="<results>/grace-crate.zip",
    log:
        "<logs>/archive.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        run_config=PROJECT.run_config(),
        code=code_digest(OUTPUTS.code("archive.py")),
        sources=code_files(OUTPUTS.code("archive.py")),
        commit=commit_archived,
        runtime=studies,
    message:
        "Archive the run"
    script:
        "../../scripts/archive.py"
