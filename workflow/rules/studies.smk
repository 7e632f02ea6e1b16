# Functions only: what the rules of analyses and of the report take from the studies' declarations.

from grace.digests import file_digest
from grace.places import rule_input
from grace.r_params import r_params
from grace.studies import analysis_files as declared


def declared_files(files_of):
    """What the declarations name, by study, or Snakemake's own error with our message."""
    try:
        return {name: files_of(study, ROOT) for name, study in PROJECT.studies.items()}
    except GraceError as error:
        raise WorkflowError(str(error)) from None


ANALYSES = declared_files(declared.analysis_files)
SECTIONS = declared_files(declared.section_files)


def analysis_inputs(study):
    """Further files that a study's analysis reads."""
    return {name: ancient(rule_input(path)) for name, path in ANALYSES[study].inputs.items()}


def analysis_input_digests(study):
    return {name: file_digest(path) for name, path in ANALYSES[study].inputs.items()}


def analysis_tables(study):
    return {name: f"<results>/analysis/{file}" for name, file in ANALYSES[study].tables.items()}


def analysis_figures(study):
    """Figures, as Snakemake's own report shows them, and the same in other formats beside them."""
    figures = ANALYSES[study].figures
    shown = {
        name: report(
            f"<results>/analysis/{figure.file}",
            caption=str(figure.caption),
            category=ANALYSES[study].category,
            labels={"figure": figure.label},
        )
        for name, figure in figures.items()
    }
    return shown | {
        f"{name}_{kind}": f"<results>/analysis/{figure.beside(kind)}"
        for name, figure in figures.items()
        for kind in declared.FIGURE_FORMATS
    }


def analysis_config(study):
    return OUTPUTS.analysis(study).model_dump()


def analysis_code(study):
    """scripts/analysis.R and what it sources, in that order."""
    return OUTPUTS.script_code("analysis.R", *ANALYSES[study].scripts)


def figures_of_report():
    """Figures of each study's analysis, by `figures_<study>`."""
    return {
        f"figures_{study}": [
            f"<results>/analysis/{figure.beside('svg')}" for figure in found.figures.values()
        ]
        for study, found in ANALYSES.items()
    }


def figure_pdfs():
    """The same figures as PDF."""
    return [
        f"<results>/analysis/{figure.beside('pdf')}"
        for found in ANALYSES.values()
        for figure in found.figures.values()
    ]


def tables_of_report():
    """Tables of each study's analysis, and its fits, by `tables_<study>`."""
    return {
        f"tables_{study}": [
            *analysis_tables(study).values(),
            f"<results>/analysis/{study}_fits.csv",
        ]
        for study in ANALYSES
    }


def report_config():
    return OUTPUTS.report().model_dump()


def report_sections(wildcards, threads):
    """Each study's part of the report, in the config's order; paths are as seen from scripts/.

    Not recorded: the files' digests are in `code`.
    """
    sections = [
        {"name": name, "sources": sources, "section": section}
        for name, (sources, section) in SECTIONS.items()
    ]
    return r_params(sections)


def report_code():
    """scripts/report.R, what it reads, and the studies' sections."""
    shared = [
        f"lib/{name}"
        for name in (
            *("common.R", "html.R", "report.R", "sections.R", "methods.R", "generic_section.R"),
            *(
                "comparison_section.R",
                "run_facts.R",
                *(f"report_page/{name}" for name in ("page.html", "style.css", "page.js")),
                "report_page/sortable.js",
                "coverage.R",
                "coverage.csv",
                "statistics.R",
                "inference.R",
                "training_comparison.R",
                "training_studies.R",
                "training_costs.R",
                "training_section.R",
                "summary_section.R",
                "pace.R",
            ),
        )
    ]
    own = [file for sources, section in SECTIONS.values() for file in (*sources, section)]
    return OUTPUTS.script_code("report.R", "report.Rmd", *dict.fromkeys([*shared, *own]))
