# Requires: the report, and its figures as PDF.
# Makes:    <results>/export/figures.pdf, all of them in one file (`snakemake figures_pdf`).


rule figures_pdf:
    input:
        report="<results>/report.html",
        figures=figure_pdfs(),
    output:
        pdf="<results>/export/figures.pdf",
    log:
        "<logs>/figures_pdf.log",
    localrule: True
    conda:
        "../../envs/python.yaml"
    params:
        code=code_digest(OUTPUTS.code("figures_pdf.py")),
        sources=code_files(OUTPUTS.code("figures_pdf.py")),
    message:
        "Put the report's figures into one PDF"
    script:
        "../../scripts/figures_pdf.py"
