"""What an output's `code` covers: an edit makes stale what it can change, and nothing else."""

from pathlib import Path

import pytest

from grace import digests, modules
from grace.project import Project

ROOT = Path(__file__).parents[2]


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
        modules.sources.cache_clear()
        found = {
            "exp1": project.experiment_code("pico", "study1", "exp1"),
            "exp2": project.experiment_code("pico", "study1", "exp2"),
            "tables": project.table_code("study1"),
        }
        monkeypatch.setattr(Path, "read_text", read_text)
        modules.sources.cache_clear()
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
        ("scoring/joining.py", {"exp2", "tables"}),
        ("scoring/records.py", {"exp2", "tables"}),
        ("measurement.py", {"exp2"}),
        ("generation.py", {"exp1"}),
        ("engines/sampling.py", {"exp1", "exp2"}),
        ("engines/vllm.py", set()),
        ("config.py", set()),
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
            "structure": project.structure_cell(),
            "probabilities": project.probabilities_cell(),
            "validation": project.validation_cell(),
        }

    before, after = cells(), cells(scoring={"surface_forms": ["{}", " {}"]})
    assert {name for name in before if before[name] != after[name]} == {"exp2"}
    assert cells(scoring={"max_batch_tokens": 7}) == before
