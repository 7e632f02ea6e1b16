"""Every row of docs/staleness.md, made on a finished run: which jobs run again, exactly."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest
from declared import write_study
from recipes import write_all
from workflow_project import ROOT, Project

from grace.steps import STEPS, in_run, of_rule

MODELS = ("pico", "twin")
STUDIES = ("study1", "study2")
TWIN = """
twin:
  name: resources/models/pico
  engine: transformers
  dtype: float32
  max_model_len: 1024
  gpus: 0
  tokenizer: tokenizer
"""


def jobs(rules: str, models=MODELS, studies=STUDIES, replications=(0,)) -> set[str]:
    """Those of the rules, such as `score pico/0/study1`."""
    values = {"model": models, "replication": replications, "study": studies}
    return {
        " ".join([rule, "/".join(map(str, wildcards))]).strip()
        for rule in rules.split()
        for wildcards in product(*(values[name] for name in of_rule(rule).wildcards))
    }


def rules(experiment: str | None, *groups: str) -> str:
    """The rules of an experiment's steps, or of those that belong to none."""
    return " ".join(
        rule
        for step in in_run(dict.fromkeys(STUDIES, ("exp1", "exp2")))
        if step.experiment == experiment and step.group in groups
        for rule in step.rules(STUDIES)
    )


ANALYSES = jobs(f"{' '.join(STEPS['analysis'].rules(STUDIES))} report")
#: What reads the records and tables of every replication.
BROWSER = jobs("trial_browser")
END = jobs("merge fit") | ANALYSES | BROWSER
CHECKS = jobs("validate") | END


def end_of(studies) -> set[str]:
    """What is made of the tables of some studies alone."""
    analyses = " ".join(STEPS["analysis"].rules(studies))
    return jobs("merge fit", studies=studies) | jobs(f"{analyses} report") | BROWSER


EXP1, EXP2 = rules("exp1", "inference", "tables"), rules("exp2", "inference", "tables")
MODEL_JOBS = f"{EXP1} {EXP2} {rules(None, 'inference', 'tables')}"
EVERYTHING = jobs(f"{MODEL_JOBS} {rules(None, 'report')}")


REFERENCES = jobs("reference")


def experiments(rules: str, **where) -> set[str]:
    """Inference jobs, what is made of them, and all that follows."""
    made = jobs(f"{rules} collect", **where)
    return made | jobs("validate") | end_of(where.get("studies", STUDIES))


Edit = Callable[[Project], None]


def change(file: str, old: str, new: str) -> Edit:
    return lambda project: project.edit(file, old, new)


def config(old: str, new: str) -> Edit:
    return change("config/config.yaml", old, new)


def config_with(line: str) -> Edit:
    return lambda project: append("config/config.yaml", f"{line}\n")(project)


def append(file: str, text: str) -> Edit:
    def edit(project: Project) -> None:
        with (project.folder / file).open("a", encoding="utf-8") as opened:
            opened.write(text)

    return edit


def delete(file: str) -> Edit:
    return lambda project: (project.folder / file).unlink()


def both(*edits: Edit) -> Edit:
    def edit(project: Project) -> None:
        for one in edits:
            one(project)

    return edit


def older(file: str) -> Edit:
    """The file as if it had lain somewhere for years."""
    return lambda project: os.utime(project.folder / file, (10**9, 10**9))


def last_row(file: str, old: str, new: str) -> Edit:
    def edit(project: Project) -> None:
        path = project.folder / file
        rows = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        assert old in rows[-1]
        rows[-1] = rows[-1].replace(old, new)
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")

    return edit


def unread_column(file: str) -> Edit:
    def edit(project: Project) -> None:
        path = project.folder / file
        header, *rows = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
        lines = [f"{header},note", *(f"{row},new" for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    return edit


def renamed(**modules: str) -> Edit:
    """Modules of the library under other names, with `__` for a slash, and all that names them."""

    def edit(project: Project) -> None:
        library = project.folder / LIBRARY
        python = [*library.rglob("*.py"), *(project.folder / "scripts").rglob("*.py")]
        texts = {path: path.read_text(encoding="utf-8") for path in python}
        for old, new in modules.items():
            before, after = (name.replace("__", ".") for name in (old, new))
            moved = library / f"{before.replace('.', '/')}.py"
            to = library / f"{after.replace('.', '/')}.py"
            texts[to] = texts.pop(moved)
            moved.unlink()
            to.parent.mkdir(exist_ok=True)
            for path, text in texts.items():
                for sign in "./":
                    text = re.sub(
                        rf"\b{re.escape(before.replace('.', sign))}\b",
                        after.replace(".", sign),
                        text,
                    )
                texts[path] = text
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")

    return edit


def touch_all(project: Project) -> None:
    """New times for every file, results before what they were made from."""
    files = [path for path in project.folder.rglob("*") if path.is_file()]
    made = [path for path in files if "results" in path.parts]
    for age, path in enumerate([*sorted(made, reverse=True), *sorted(set(files) - set(made))]):
        if ".snakemake" not in path.parts:
            os.utime(path, (10**9 + age, 10**9 + age))


def variant(project: Project) -> None:
    folder = project.folder / "config/prompts"
    shutil.copytree(folder / "seed", folder / "other")
    for template in (folder / "other").glob("study*.j2"):
        text = template.read_text(encoding="utf-8")
        template.write_text(f"Please read this.\n{text}", encoding="utf-8")
    config("variants: [seed]", "variants: [seed, other]")(project)


def other_stimuli(project: Project) -> None:
    folder = project.folder / "resources/stimuli"
    shutil.copy(folder / "study2.csv", folder / "copy.csv")
    config_with("stimuli: {study2: resources/stimuli/copy.csv}")(project)


def engine_more(project: Project) -> None:
    write_all("Adding an engine", project.folder)


@dataclass(frozen=True)
class Row:
    edit: Edit
    stale: set[str]
    arguments: tuple[str, ...] = ()


NOTHING: set[str] = set()
STUDY1, STUDY2 = "resources/stimuli/study1.csv", "resources/stimuli/study2.csv"
REPLICATION = "results/pico/replication-0"
LIBRARY = "workflow/lib/grace"
OPENING = "from __future__ import annotations\n"
STATEMENT = f"{OPENING}\nEDITED = True\n"

ROWS = {
    # Questions
    "one word of a study-2 prompt": Row(
        change("config/prompts/seed/_study2_question.j2", "On a scale", "Put on a scale"),
        experiments(f"{EXP1} {EXP2}", studies=["study2"]),
    ),
    "one word of a prompt that one experiment uses": Row(
        change("config/prompts/seed/study1_exp1.j2", "Say yes or no", "Answer yes or no"),
        experiments(EXP1, studies=["study1"]),
    ),
    "a new prompt variant": Row(variant, experiments(f"{EXP1} {EXP2}")),
    "one stimulus row": Row(
        change(STUDY1, "nearly always", "almost always"),
        experiments(f"{EXP1} {EXP2}", studies=["study1"]),
    ),
    "one stimulus row, in a file with an old time": Row(
        both(change(STUDY1, "nearly always", "almost always"), older(STUDY1)),
        experiments(f"{EXP1} {EXP2}", studies=["study1"]),
    ),
    "a stimulus row beyond `limit`": Row(last_row(STUDY1, "nearly", "almost"), NOTHING),
    "a stimulus column that the study does not read": Row(unread_column(STUDY2), NOTHING),
    "another stimuli file with the same rows": Row(
        other_stimuli, experiments(f"{EXP1} {EXP2}", studies=["study2"])
    ),
    "`limit` lowered": Row(config("limit: 6", "limit: 5"), experiments(f"{EXP1} {EXP2}")),
    "`limit` raised": Row(config("limit: 6", "limit: 7"), experiments(f"{EXP1} {EXP2}")),
    # What is run
    "a replication more": Row(
        config("replications: 1", "replications: 2"),
        jobs(MODEL_JOBS, replications=[1]) | END,
    ),
    "a model more": Row(
        both(
            append("config/models.yaml", TWIN.replace("twin:", "third:")),
            config("[pico, twin]", "[pico, twin, third]"),
        ),
        jobs(MODEL_JOBS, models=["third"]) | END,
    ),
    "a model less": Row(config("[pico, twin]", "[pico]"), END),
    "an experiment less": Row(
        config("experiments: [exp1, exp2]", "experiments: [exp2]"),
        jobs("probabilities collect") | CHECKS,
    ),
    "a study less": Row(
        config("studies: [study1, study2]", "studies: [study1]"),
        jobs("collect validate report") | BROWSER,
    ),
    "a study of one's own more": Row(
        both(
            lambda project: write_study(project.folder / "toy") and None,
            config("studies: [study1, study2]", "studies: [study1, study2, ./toy]"),
        ),
        experiments(f"{EXP1} {EXP2}", studies=["toy"]) | jobs("reference", studies=["toy"]),
    ),
    "a study registered": Row(
        lambda project: write_study(project.folder / "studies" / "toy") and None, NOTHING
    ),
    "a model registered": Row(
        append("config/models.yaml", TWIN.replace("twin:", "third:")), NOTHING
    ),
    "a GPU tag registered": Row(
        change(
            "config/clusters.yaml",
            "    a100:\n",
            "    new: {memory_gib: 8, compute_capability: 7.0}\n    a100:\n",
        ),
        NOTHING,
    ),
    "`results`, the folder": Row(config("results: results", "results: elsewhere"), EVERYTHING),
    # Models
    "the entry of a model that is not asked": Row(
        change("config/models.yaml", "google/gemma-2-2b-it", "google/gemma-2-2b"), NOTHING
    ),
    "a model added to models.yaml": Row(
        append("config/models.yaml", TWIN.replace("twin:", "third:")), NOTHING
    ),
    "a model's `revision`": Row(
        change("config/models.yaml", "pico:\n", "pico:\n  revision: abc\n"),
        jobs(MODEL_JOBS, models=["pico"]) | END,
    ),
    "a model's `dtype`": Row(
        change("config/models.yaml", TWIN, TWIN.replace("float32", "bfloat16")),
        jobs(MODEL_JOBS, models=["twin"]) | END,
    ),
    "a model's `max_model_len`": Row(
        change("config/models.yaml", TWIN, TWIN.replace("1024", "512")),
        jobs(MODEL_JOBS, models=["twin"]) | END,
    ),
    "a local model's files": Row(
        append("resources/models/pico/generation_config.json", "\n"), EVERYTHING - REFERENCES
    ),
    "the files of a folder in `tokenizer`": Row(
        append("tokenizer/tokenizer_config.json", "\n"),
        jobs(MODEL_JOBS, models=["twin"]) | END,
    ),
    "a model's `gpus`": Row(
        change("config/models.yaml", "max_model_len: 1024\n  gpus: 0", "max_model_len: 1024"),
        NOTHING,
    ),
    "a model's `placements` on tags that are not asked for": Row(
        change(
            "config/models.yaml",
            TWIN,
            f"{TWIN}  parameters_b: 0.1\n  runtime_min: 60\n  placements: {{a100: {{gpus: 2}}}}\n",
        ),
        NOTHING,
    ),
    "`engine`": Row(config_with("engine: vllm"), EVERYTHING - REFERENCES),
    # How it is asked
    "`generation.temperature`": Row(
        config("temperature: 0.7", "temperature: 0.8"), experiments(f"{EXP1} probabilities")
    ),
    "`generation.max_tokens`": Row(config("max_tokens: 256", "max_tokens: 255"), experiments(EXP1)),
    "`base_seed`": Row(config("base_seed: 1000", "base_seed: 2000"), EVERYTHING - REFERENCES),
    "`shuffle`": Row(config("shuffle: true", "shuffle: false"), EVERYTHING - REFERENCES),
    "`scoring.surface_forms`": Row(
        config_with("scoring: {surface_forms: ['{}', ' {}']}"), experiments(EXP2)
    ),
    "`scoring.terminators`, of a model of the engine `transformers`": Row(
        config_with("scoring: {terminators: needed}"), experiments(EXP2)
    ),
    "`scoring.max_batch_tokens`, `scoring.max_batch_mib`, `scoring.reread`": Row(
        config_with("scoring: {max_batch_tokens: 64, max_batch_mib: 8, reread: 1}"), NOTHING
    ),
    "`requests`": Row(config_with("requests: {concurrency: 1, timeout_s: 5}"), NOTHING),
    "`serving`, of a model that vLLM does not serve": Row(
        config_with("serving: {idle_s: 1, extra_args: [--kv-cache-dtype=fp8]}"), NOTHING
    ),
    # Parsing, checks
    "`thresholds.percentage_tolerance`": Row(
        config("percentage_tolerance: 1.0", "percentage_tolerance: 2.0"),
        jobs("structure") | CHECKS,
    ),
    "`thresholds.min_option_mass`": Row(
        config("min_option_mass: 0.5", "min_option_mass: 0.6"), jobs("probabilities") | CHECKS
    ),
    "any other threshold": Row(
        config("max_failure_rate: 0.01", "max_failure_rate: 0.02"), CHECKS - BROWSER
    ),
    "`extraction.method`": Row(
        config_with("extraction: {method: model}"), jobs("extract structure") | CHECKS
    ),
    "`extraction`, of a run whose answers the rules read": Row(
        config_with("extraction: {model: another, queries: 3}"), NOTHING
    ),
    "`on_invalid`": Row(config("on_invalid: warn", "on_invalid: fail"), END - BROWSER),
    # Code in Python
    "a comment or docstring of a script": Row(
        change("scripts/structure.py", '"""Parse', '# A comment.\n"""Read'), NOTHING
    ),
    "a statement of a script": Row(
        append("scripts/validate.py", "\nEDITED = True\n"), jobs("validate report")
    ),
    "a statement of `scripts/score.py`": Row(
        append("scripts/score.py", "\nEDITED = True\n"), experiments(EXP2)
    ),
    "a statement of `scripts/plan.py`": Row(
        append("scripts/plan.py", "\nEDITED = True\n"), EVERYTHING - REFERENCES
    ),
    "a docstring of the scoring": Row(
        change(f"{LIBRARY}/scoring/forest.py", '"""A token forest:', '"""A forest:'), NOTHING
    ),
    "the arithmetic of the scoring": Row(
        change(f"{LIBRARY}/scoring/forest.py", "log_sum(", "2 * log_sum("), experiments(EXP2)
    ),
    "experiment 1's module": Row(
        change(f"{LIBRARY}/experiments/generation.py", OPENING, STATEMENT), experiments(EXP1)
    ),
    "the parser of a study's answers": Row(
        change("studies/study1/study.yaml", "  initial\\s*answer{{", "  \\binitial\\s*answer{{"),
        jobs("tabulate structure probabilities", studies=["study1"])
        | jobs("validate")
        | end_of(["study1"]),
    ),
    "what a study asks": Row(
        change(
            "studies/study1/study.yaml", "prior_question: priorQ", "prior_question: priorQ | strip"
        ),
        experiments(f"{EXP1} {EXP2}", studies=["study1"]),
    ),
    "what makes tables of records": Row(
        change(f"{LIBRARY}/results/tables.py", OPENING, STATEMENT),
        jobs("tabulate structure probabilities") | CHECKS,
    ),
    "how records are written and read": Row(
        change(f"{LIBRARY}/results/records.py", OPENING, STATEMENT),
        jobs("collect tabulate structure probabilities") | CHECKS,
    ),
    "how engines are found": Row(
        change(f"{LIBRARY}/engines/registry.py", OPENING, STATEMENT), NOTHING
    ),
    "an engine more, a folder in `engines/`": Row(engine_more, NOTHING),
    "the package of studies, `studies/__init__.py`": Row(
        append(f"{LIBRARY}/studies/__init__.py", "\nEDITED = True\n"),
        experiments(f"{EXP1} {EXP2}") | jobs("reference"),
    ),
    "a module renamed, or moved to another room": Row(
        both(
            renamed(
                scoring__forest="scoring__trie",
                experiments__generation="sampling__first",
                results__tables="results__csv_files",
            ),
            lambda project: (project.folder / LIBRARY / "sampling/__init__.py").touch(),
        ),
        NOTHING,
    ),
    "how keys of answers are made": Row(
        change(f"{LIBRARY}/engines/answer_keys.py", OPENING, STATEMENT), NOTHING
    ),
    "an engine that no model asked for uses": Row(
        change(f"{LIBRARY}/engines/vllm/client.py", OPENING, STATEMENT), NOTHING
    ),
    "the journal's modules": Row(
        change(f"{LIBRARY}/journal/store.py", OPENING, STATEMENT), NOTHING
    ),
    "a cognitive model": Row(
        change("studies/study1/study.yaml", "alpha: 3.4", "alpha: 3.5"),
        jobs("reference fit", studies=["study1"]) | jobs("analysis_study1 report") | BROWSER,
    ),
    # Statistics, figures, report
    "what all figures share": Row(append("scripts/lib/figures.R", "\nedited <- TRUE\n"), ANALYSES),
    "a figure": Row(
        append("studies/study1/figures.R", "\nedited <- TRUE\n"),
        jobs("analysis_study1 report"),
    ),
    "a statistic in R": Row(append("scripts/lib/statistics.R", "\nedited <- TRUE\n"), ANALYSES),
    "one study's analysis in R": Row(
        change("studies/study2/analysis.R", ", 400L, key_seed", ", 500L, key_seed"),
        jobs("analysis_study2 report"),
    ),
    "the text of a study's section": Row(
        append("studies/study1/section.Rmd", "\nMore.\n"), jobs("report")
    ),
    "a comment in R": Row(append("scripts/lib/report.R", "# A comment.\n"), jobs("report")),
    "`scripts/report.Rmd`": Row(
        change("scripts/report.Rmd", "# Provenance", "# Where it comes from"), jobs("report")
    ),
    "the style or a script of the trial browser": Row(
        append("scripts/lib/trial_browser/style.css", "a { color: red; }\n"), BROWSER
    ),
    "the seed of the sampling floors": Row(
        change(f"{LIBRARY}/settings/output_configs.py", "seed: int = 1000", "seed: int = 10"),
        ANALYSES,
    ),
    "a table of `resources/reference`": Row(
        change("resources/reference/study2_human_cells.csv", "informative", "both"),
        jobs("reference fit analysis_study2 report", studies=["study2"]) | BROWSER,
    ),
    # Machine and bookkeeping
    "`--cores`": Row(both(), NOTHING, ("--cores", "1")),
    "`gpus`, the tags": Row(config_with("gpus: [a100]"), NOTHING),
    "a tag added to `clusters.yaml`": Row(
        change(
            "config/clusters.yaml",
            "    rtx3090:\n      memory_gib: 24\n",
            "    h100:\n      memory_gib: 80\n      compute_capability: 9.0\n"
            "    rtx3090:\n      memory_gib: 24\n",
        ),
        NOTHING,
    ),
    "`gpus`, where a model's placement has another `dtype`": Row(
        both(
            change(
                "config/models.yaml",
                TWIN,
                TWIN.replace("gpus: 0", "placements: {a100: {dtype: bfloat16}}"),
            ),
            config_with("gpus: [a100]"),
        ),
        jobs(MODEL_JOBS, models=["twin"]) | END,
    ),
    "`cluster`, or what `clusters.yaml` says of it": Row(
        both(
            config_with("cluster: local"),
            change("config/clusters.yaml", "namespace: grace", "namespace: mine"),
        ),
        NOTHING,
    ),
    "`--verbose`, `GRACE_TERMINAL`": Row(both(), NOTHING, ("--verbose",)),
    "`journal_dir`, `journal_timeout_s`": Row(
        config_with("journal_dir: elsewhere\njournal_timeout_s: 60"), NOTHING
    ),
    "a rule's message, log or comment": Row(
        both(
            change("workflow/rules/generate.smk", "Sample {", "Ask for {"),
            change("workflow/rules/generate.smk", "_exp1.log", "_generate.log"),
        ),
        NOTHING,
    ),
    "a caption of Snakemake's own report": Row(
        append("studies/study1/captions/bets.rst", "More.\n"), NOTHING
    ),
    "a pinned environment, without conda": Row(append("envs/python.yaml", "\n"), NOTHING),
    # Files
    "new times for every file": Row(touch_all, NOTHING),
    "a result edited by hand": Row(
        append(f"{REPLICATION}/study1_raw_responses.csv", "\n"),
        jobs("structure", models=["pico"], studies=["study1"])
        | jobs("validate", models=["pico"])
        | end_of(["study1"]),
    ),
    "a result deleted": Row(
        delete(f"{REPLICATION}/study1_exp1.json"),
        jobs(EXP1, models=["pico"], studies=["study1"])
        | jobs("collect validate", models=["pico"])
        | end_of(["study1"]),
    ),
    "the report deleted": Row(delete("results/report.html"), jobs("report")),
    "a log or benchmark deleted": Row(
        both(
            delete("results/logs/pico/replication-0/plan.log"),
            delete("results/benchmarks/pico/replication-0/study1_exp1.tsv"),
        ),
        NOTHING,
    ),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Project:
    """A project of two models in which everything has run. Not to be edited."""
    project = Project.copied_to(tmp_path_factory.mktemp("finished") / "project")
    project.tells_jobs()
    append("config/models.yaml", TWIN)(project)
    (project.folder / "tokenizer").mkdir()
    for path in (project.folder / "resources/models/pico").glob("tokenizer*"):
        shutil.copy(path, project.folder / "tokenizer")
    both(
        config("models: [pico]", "models: [pico, twin]\nlimit: 6"),
        config("replications: 2", "replications: 1"),
        config("on_invalid: fail", "on_invalid: warn"),
    )(project)
    project.run()
    return project


@pytest.fixture(scope="module")
def edited(finished, tmp_path_factory) -> Project:
    """A copy of it, which every row edits and puts back."""
    return copied(finished, tmp_path_factory.mktemp("edited") / "project")


def copied(project: Project, folder: Path, copy=shutil.copy2) -> Project:
    shutil.copytree(project.folder, folder, copy_function=copy)
    return Project(folder)


def files_of(project: Project) -> set[Path]:
    """All but Snakemake's own, relative to the project."""
    return {
        path.relative_to(project.folder)
        for path in project.folder.rglob("*")
        if path.is_file() and ".snakemake" not in path.parts
    }


@contextmanager
def put_back(project: Project, original: Project) -> Iterator[None]:
    """Afterwards the bytes of all files are the original's; what was changed keeps a new time."""
    try:
        yield
    finally:
        wanted = files_of(original)
        for name in files_of(project) - wanted:
            (project.folder / name).unlink()
        for name in wanted:
            path, kept = project.folder / name, original.folder / name
            if not path.exists() or path.read_bytes() != kept.read_bytes():
                shutil.copyfile(kept, path)


@pytest.mark.parametrize("name", ROWS)
def test_an_edit_makes_stale_exactly_what_depends_on_it(finished, edited, name):
    row = ROWS[name]
    with put_back(edited, finished):
        row.edit(edited)
        assert edited.jobs(*row.arguments) == row.stale


def test_edits_undone_leave_nothing_to_do(edited):
    assert edited.jobs() == NOTHING


def test_a_fresh_clone_with_results_and_records_has_nothing_to_do(finished, tmp_path):
    # Another folder, new times in no sensible order.
    clone = copied(finished, tmp_path / "clone", shutil.copyfile)
    touch_all(clone)
    assert clone.jobs() == NOTHING
    # It is the contents that say so.
    assert clone.jobs("--max-checksum-file-size", "0") != NOTHING


def test_results_without_records_are_kept_and_said_to_be_unrecorded(finished, tmp_path):
    clone = copied(finished, tmp_path / "clone")
    shutil.rmtree(clone.folder / ".snakemake")
    for source in files_of(clone):
        if "results" not in source.parts:
            (clone.folder / source).touch()
    assert clone.jobs() == NOTHING
    assert "jobs have missing provenance" in clone.run("-n")
    metadata = f"{REPLICATION}/metadata.json"
    delete(metadata)(clone)
    assert "Warning: 5 jobs have results but no record" in clone.run(metadata)


def test_a_run_that_was_stopped_goes_on_where_it_stopped(finished, tmp_path):
    project = copied(finished, tmp_path / "project")
    change("config/prompts/seed/_study2_question.j2", "On a scale", "Put on a scale")(project)
    stale = experiments(f"{EXP1} {EXP2}", studies=["study2"])
    assert project.jobs() == stale
    # As far as pico's raw answers: everything that follows them is older, and has its old params.
    project.run(f"{REPLICATION}/study2_raw_responses.csv")
    assert project.jobs() == stale - {"generate pico/0/study2", "tabulate pico/0/study2"}


def test_a_job_that_made_the_same_again_makes_nothing_else_stale(finished, tmp_path):
    project = copied(finished, tmp_path / "project")
    table = f"{REPLICATION}/study2_structured.csv"
    before = (project.folder / table).stat().st_mtime_ns
    append("scripts/structure.py", "\nEDITED = True\n")(project)
    project.run("--until", "structure")
    assert (project.folder / table).stat().st_mtime_ns > before
    assert project.jobs() == NOTHING


#: What the page calls several rules.
GROUPS = {
    "experiment 1": set(EXP1.split()),
    "experiment 2": set(EXP2.split()),
    "analyses": {job.split()[0] for job in ANALYSES},
    "end": {job.split()[0] for job in END},
    "checks": {job.split()[0] for job in CHECKS},
    "checks of study 1": {"validate", *(job.split()[0] for job in end_of(["study1"]))},
    "checks of study 2": {"validate", *(job.split()[0] for job in end_of(["study2"]))},
    "nothing": set(),
}


def rules_in(cell: str) -> set[str]:
    """The rules that a cell of the page names; what is in brackets says which of their jobs."""
    names = re.sub(r"\s*\([^)]*\)", "", cell).split(", ")
    return set().union(*(GROUPS.get(name, {name.strip("`")}) for name in names))


def test_the_page_has_these_rows_with_these_rules():
    page = (ROOT / "docs/staleness.md").read_text(encoding="utf-8")
    table = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    told = {cells[0]: rules_in(cells[1]) for cells in table if len(cells) == 3}
    del told["edit"]
    assert told == {name: {job.split()[0] for job in row.stale} for name, row in ROWS.items()}
