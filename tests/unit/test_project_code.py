"""What an output's `code` covers: an edit makes stale what it can change, and nothing else."""

from pathlib import Path

import pytest

from grace import modules, source_code
from grace.modules import Code
from grace.settings.outputs import Outputs
from grace.settings.project import Project

ROOT = Path(__file__).parents[2]
TABLES = ("tables", "other tables")


@pytest.fixture(scope="module")
def project() -> Project:
    return Project(ROOT, {})


def codes(project: Project) -> dict[str, Code]:
    """The codes of pico's experiments and of the tables, of files as they are now."""
    modules.library.cache_clear()
    outputs = Outputs(project)
    return {
        "exp1": outputs.experiment_code("pico", "study1", "exp1"),
        "exp2": outputs.experiment_code("pico", "study1", "exp2"),
        "tables": outputs.table_code("structure.py", "study1"),
        "other tables": outputs.table_code("structure.py", "study2"),
    }


@pytest.fixture(scope="module")
def before(project) -> dict[str, Code]:
    return codes(project)


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        ("engines/transformers/scorer.py", {"exp2"}),
        ("engines/transformers/packed_scoring.py", {"exp2"}),
        ("engines/transformers/row_scoring.py", {"exp2"}),
        ("scoring/forest.py", {"exp2"}),
        ("scoring/packing.py", {"exp2"}),
        ("scoring/joining.py", {"exp2", *TABLES}),
        ("scoring/records.py", {"exp2", *TABLES}),
        ("scoring/__init__.py", {"exp1", "exp2", *TABLES}),
        ("experiments/measurement.py", {"exp2"}),
        ("experiments/generation.py", {"exp1"}),
        ("engines/transformers/sampling.py", {"exp1", "exp2"}),
        ("engines/transformers/engine.py", {"exp1", "exp2"}),
        ("engines/vllm/engine.py", set()),
        ("engines/vllm/client.py", set()),
        ("settings/config.py", set()),
        ("experiments/preflight.py", set()),
        ("runs/continuation.py", set()),
        # What finds engines changes none, and what opens them may.
        ("engines/registry.py", set()),
        ("engines/opening.py", {"exp1", "exp2"}),
        # What lists studies counts, and what it lists only where it is used.
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
def test_an_edit_makes_stale_what_it_can_change(project, before, monkeypatch, module, stale):
    read_text = Path.read_text

    def edited_text(path: Path, *args, **kwargs) -> str:
        text = read_text(path, *args, **kwargs)
        return f"{text}\nEDITED = True\n" if path == source_code.LIBRARY / module else text

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", edited_text)
        after = codes(project)
    modules.library.cache_clear()
    assert {name for name in before if before[name] != after[name]} == stale


def test_surface_forms_make_experiment_2_stale_and_only_it():
    def cells(**values) -> dict:
        project = Project(ROOT, values)
        return {
            "plan": Outputs(project).plan("pico", 0),
            "exp1": Outputs(project).experiment("pico", 0, "study1", "exp1"),
            "exp2": Outputs(project).experiment("pico", 0, "study1", "exp2"),
            "structure": Outputs(project).structure("study1"),
            "probabilities": Outputs(project).probabilities("study1"),
            "validation": Outputs(project).validation("pico"),
        }

    before, after = cells(), cells(scoring={"surface_forms": ["{}", " {}"]})
    assert {name for name in before if before[name] != after[name]} == {"exp2"}
    assert cells(scoring={"max_batch_tokens": 7}) == before


def test_a_limit_past_the_last_trial_is_none():
    def cells(limit) -> list:
        project = Project(ROOT, {"limit": limit})
        experiment = Outputs(project).experiment("pico", 0, "study1", "exp1")
        return [experiment, Outputs(project).validation("pico")]

    whole = cells(None)
    assert whole[0].limit == 300
    assert cells(10_000) == whole
    assert cells(299) != whole


def test_arguments_of_the_server_count_for_the_models_that_it_serves():
    def cells(**serving) -> dict:
        project = Project(ROOT, {"models": ["pico", "gemma-2b"], "serving": serving})
        return project.model_configs

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
        return Outputs(project).code("made.py")

    plain = code("x = 1\n")
    assert code('"""What it does."""\n\nx  =  1  # a comment\n') == plain
    assert code("x = 2\n") != plain
    code("from grace.results.tables import raw_rows\nfrom grace.errors import GraceError\n")
    room = {"results/__init__.py", "results/tables.py"}
    assert source_code.script_imports(script) == {"__init__.py", "errors.py", *room}
    assert Outputs(project).code("made.py")["modules"] == sorted(room)


def test_r_counts_by_its_bytes(tmp_path):
    script = tmp_path / "figure.R"
    script.write_text("x <- 1\n", encoding="utf-8")
    before = source_code.source_digest(script)
    script.write_text("x <- 1 # one\n", encoding="utf-8")
    assert source_code.source_digest(script) != before
