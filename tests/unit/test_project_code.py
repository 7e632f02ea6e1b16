"""What an output's `code` covers: an edit makes stale what it can change, and nothing else."""

from pathlib import Path

import pytest

from grace import digests, modules
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]
TABLES = ("tables", "other tables")


@pytest.fixture
def codes(monkeypatch, tmp_path):
    """The codes of pico's experiments and of the tables, after an edit of one module."""
    project = Project(ROOT, {})

    def after(edited: str | None) -> dict[str, str]:
        read_text = Path.read_text

        def edited_text(path: Path, *args, **kwargs) -> str:
            text = read_text(path, *args, **kwargs)
            same = edited is not None and path == digests.LIBRARY / edited
            return f"{text}\nEDITED = True\n" if same else text

        monkeypatch.setattr(Path, "read_text", edited_text)
        modules.library.cache_clear()
        found = {
            "exp1": project.experiment_code("pico", "study1", "exp1"),
            "exp2": project.experiment_code("pico", "study1", "exp2"),
            "tables": project.table_code("structure.py", "study1"),
            "other tables": project.table_code("structure.py", "study2"),
        }
        monkeypatch.setattr(Path, "read_text", read_text)
        modules.library.cache_clear()
        return found

    return after


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        ("engines/scorer.py", {"exp2"}),
        ("engines/packed_scoring.py", {"exp2"}),
        ("engines/row_scoring.py", {"exp2"}),
        ("scoring/forest.py", {"exp2"}),
        ("scoring/packing.py", {"exp2"}),
        ("scoring/joining.py", {"exp2", *TABLES}),
        ("scoring/records.py", {"exp2", *TABLES}),
        ("scoring/__init__.py", {"exp1", "exp2", *TABLES}),
        ("experiments/measurement.py", {"exp2"}),
        ("experiments/generation.py", {"exp1"}),
        ("engines/sampling.py", {"exp1", "exp2"}),
        ("engines/vllm.py", set()),
        ("settings/config.py", set()),
        ("experiments/preflight.py", set()),
        ("runs/continuation.py", set()),
        # What lists engines and studies counts, and what they list only where it is used.
        ("engines/__init__.py", {"exp1", "exp2"}),
        ("studies/__init__.py", {"exp1", "exp2", *TABLES}),
        ("serving/__init__.py", set()),
        ("journal/__init__.py", set()),
        ("journal/store.py", set()),
        ("__init__.py", set()),
        # What is asked, and what reads the answers.
        ("studies/asking.py", {"exp1", "exp2", *TABLES}),
        ("studies/trials.py", {"exp1", "exp2", *TABLES}),
        ("studies/expressions.py", {"exp1", "exp2", *TABLES}),
        ("prompts/variants.py", {"exp1", "exp2", *TABLES}),
        ("studies/answers.py", set(TABLES)),
        ("studies/distributions.py", set(TABLES)),
        # What a declaration may say: what it does say is in the cells.
        ("studies/declaration.py", set()),
        ("studies/reading.py", set()),
        ("studies/catalogue.py", set()),
        ("results/tables.py", set(TABLES)),
        ("results/records.py", set(TABLES)),
        ("studies/stimuli.py", set()),
        ("scoring/distributions.py", {"exp2", *TABLES}),
        # Keys of answers and digests of files change no answer.
        ("engines/answer_keys.py", set()),
        ("engines/former_keys.py", set()),
        ("contents.py", set()),
    ],
)
def test_an_edit_makes_stale_what_it_can_change(codes, module, stale):
    before, after = codes(None), codes(module)
    assert {name for name in before if before[name] != after[name]} == stale


def test_surface_forms_make_experiment_2_stale_and_only_it():
    def cells(**values) -> dict:
        project = Project(ROOT, values)
        return {
            "plan": project.plan_cell("pico", 0),
            "exp1": project.experiment_cell("pico", 0, "study1", "exp1"),
            "exp2": project.experiment_cell("pico", 0, "study1", "exp2"),
            "structure": project.structure_cell("study1"),
            "probabilities": project.probabilities_cell("study1"),
            "validation": project.validation_cell("pico"),
        }

    before, after = cells(), cells(scoring={"surface_forms": ["{}", " {}"]})
    assert {name for name in before if before[name] != after[name]} == {"exp2"}
    assert cells(scoring={"max_batch_tokens": 7}) == before


def test_a_limit_past_the_last_trial_is_none():
    def cells(limit) -> list:
        project = Project(ROOT, {"limit": limit})
        experiment = project.experiment_cell("pico", 0, "study1", "exp1")
        return [experiment, project.validation_cell("pico")]

    whole = cells(None)
    assert whole[0]["limit"] == 300
    assert cells(10_000) == whole
    assert cells(299) != whole


def test_arguments_of_the_server_count_for_the_models_that_it_serves():
    def cells(**serving) -> dict:
        project = Project(ROOT, {"models": ["pico", "gemma-2b"], "serving": serving})
        return project.model_cells

    before, after = cells(), cells(extra_args=["--kv-cache-dtype=fp8"])
    assert before["pico"] == after["pico"]
    assert before["gemma-2b"] != after["gemma-2b"]
    assert cells(idle_s=1, port=8000) == before


def test_a_script_counts_without_its_comments_and_with_what_it_imports(tmp_path):
    project = Project(ROOT, {})
    project.root = tmp_path
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "made.py"

    def code(text: str) -> str:
        script.write_text(text, encoding="utf-8")
        return project.code("made.py")

    plain = code("x = 1\n")
    assert code('"""What it does."""\n\nx  =  1  # a comment\n') == plain
    assert code("x = 2\n") != plain
    code("from grace.results.tables import raw_rows\nfrom grace.errors import GraceError\n")
    room = {"results/__init__.py", "results/tables.py"}
    assert digests.script_imports(script) == {"__init__.py", "errors.py", *room}
    assert project.code("made.py")["modules"] == sorted(room)


def test_r_counts_by_its_bytes(tmp_path):
    script = tmp_path / "figure.R"
    script.write_text("x <- 1\n", encoding="utf-8")
    before = digests.source_digest(script)
    script.write_text("x <- 1 # one\n", encoding="utf-8")
    assert digests.source_digest(script) != before
