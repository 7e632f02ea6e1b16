"""Records beside outputs: what they refuse, and the first broken link that they lead to."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from finished_run import facts_of_a_job, forged, lowered
from pydantic import ValidationError

from grace.digests import file_digest
from grace.errors import RecordError
from grace.models import hub
from grace.provenance import chain, sidecars, verify
from grace.source_code import joined_digest, read_source, source_digest


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """stimuli.csv → results/a.json → results/deep/b.csv → results/report.html, by step.py."""
    monkeypatch.chdir(tmp_path)
    Path("step.py").write_text("def f(x):\n    return x + 1\n")
    Path("stimuli.csv").write_text("1\n")
    made("results/a.json", "stimuli.csv")
    made("results/deep/b.csv", "results/a.json")
    made("results/report.html", "results/deep/b.csv")
    return tmp_path


def made(output: str, *inputs: str) -> None:
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"content of {output}\n")
    recorded([output], *inputs)


def recorded(outputs: list[str], *inputs: str) -> None:
    facts = facts_of_a_job(
        inputs=sidecars.input_digests(inputs, "results"),
        input_records=sidecars.input_records(inputs),
        code={"step.py": source_digest(Path("step.py"))},
    )
    sidecars.write_sidecars(outputs, "results", {**facts, "rule": f"make_{Path(outputs[0]).stem}"})


def verdicts(results: str = "results") -> dict[str, tuple[str, str] | None]:
    """State and file of each result's first broken link."""
    links = verify.verify(chain.results_in(Path(results)), Path())
    return {
        file.relative_to(results).as_posix(): (link.state, link.file.name) if link else None
        for file, link in links.items()
    }


def test_an_untouched_chain_is_intact(project):
    assert verdicts() == {"a.json": None, "deep/b.csv": None, "report.html": None}
    assert verify.main([]) == 0


def test_the_page_that_git_brings_is_no_result(project):
    Path("results/README.md").write_text("# What will be here\n")
    assert verdicts() == {"a.json": None, "deep/b.csv": None, "report.html": None}
    assert verify.main([]) == 0


def test_a_changed_result_spoils_itself_and_what_follows(project):
    Path("results/deep/b.csv").write_text("fixed by hand")
    changed = ("changed since", "b.csv")
    assert verdicts() == {"a.json": None, "deep/b.csv": changed, "report.html": changed}
    assert verify.main([]) == 1


def test_of_two_broken_links_the_one_upstream_is_named(project):
    Path("results/deep/b.csv").write_text("fixed by hand")
    Path("results/a.json").write_text("fixed, too")
    assert set(verdicts().values()) == {("changed since", "a.json")}


def test_a_changed_or_missing_input_spoils_all(project):
    Path("stimuli.csv").write_text("2\n")
    assert set(verdicts().values()) == {("changed since", "stimuli.csv")}
    Path("stimuli.csv").unlink()
    assert set(verdicts().values()) == {("changed since", "stimuli.csv")}


def record_with(facts: dict) -> None:
    """results/a.json as inference records it, and what is made from it."""
    forged(Path("results/a.json"), lambda record: record.update(facts))
    made("results/deep/b.csv", "results/a.json")
    made("results/report.html", "results/deep/b.csv")


def test_a_model_file_counts_by_content_whatever_its_size(project):
    weights = Path("weights")
    with weights.open("wb") as file:
        file.truncate(65 * 2**20)  # above what was once known by its size alone
    record_with({"files": {"weights": file_digest(weights)}})
    assert verdicts()["report.html"] is None
    with weights.open("r+b") as file:
        file.write(b"other")
    assert verdicts()["report.html"] == ("changed since", "weights")
    # An old record cannot tell.
    forged(Path("results/a.json"), lowered)
    record_with({"files": {"weights": f"{65 * 2**20} bytes"}})
    assert verdicts()["report.html"] == ("of unknown origin", "weights")


def test_a_hub_model_that_was_edited_in_the_cache_is_named(project, monkeypatch):
    files = {"config.json": "a" * 40, "model.safetensors": "b" * 64}
    record_with({"model": {"name": "org/model", "revision": "c" * 40, "files": files}})
    found: list[dict[str, str] | None] = [None, files, {**files, "config.json": "d" * 40}]
    states = []
    for now in found:
        monkeypatch.setattr(hub, "files", lambda *_, now=now: {"revision": None, "files": now})
        states.append(verdicts()["report.html"])
    # What this machine does not have can be neither right nor wrong.
    assert states == [None, None, ("changed since", "config.json")]


def test_an_input_made_anew_leaves_what_was_made_from_the_old_one_behind(project):
    Path("stimuli.csv").write_text("2\n")
    made("results/a.json", "stimuli.csv")
    Path("results/a.json").write_text("another answer")
    sidecars.forget(["results/a.json"])
    recorded(["results/a.json"])
    behind = ("changed since", "a.json")
    assert verdicts() == {"a.json": None, "deep/b.csv": behind, "report.html": behind}


def test_other_code_is_told_from_a_comment(project):
    Path("step.py").write_text("def f(x):\n    # why\n    return x + 1\n")
    assert set(verdicts().values()) == {None}
    Path("step.py").write_text("def f(x):\n    return x + 2\n")
    assert set(verdicts().values()) == {("made by other code", "a.json")}
    Path("step.py").unlink()
    assert set(verdicts().values()) == {("made by other code", "a.json")}


def test_code_that_was_renamed_is_the_same_and_imported_from_elsewhere_is_not(project):
    library = Path("workflow/lib/grace")
    (library / "deep").mkdir(parents=True)
    Path("scripts").mkdir()
    files = {
        "workflow/lib/grace/__init__.py": "",
        "workflow/lib/grace/a.py": "def f(x):\n    return x + 1\n",
        "workflow/lib/grace/b.py": "def f(x):\n    return x + 2\n",
        "scripts/step.py": "from grace.a import f\n",
    }
    for name, text in files.items():
        Path(name).write_text(text)
    code = {name: read_source(Path(name), library) for name in files}
    facts = facts_of_a_job(
        inputs={},
        input_records={},
        code={name: source.digest for name, source in code.items()},
        code_digest=joined_digest(code),
    )
    Path("results/made.json").write_text("made")
    sidecars.write_sidecars(["results/made.json"], "results", {**facts, "rule": "make"})
    assert verdicts()["made.json"] is None
    (library / "a.py").rename(library / "deep/other.py")
    Path("scripts/step.py").write_text("from grace.deep.other import f\n")
    assert verdicts()["made.json"] is None
    Path("scripts/step.py").write_text("from grace.b import f\n")
    assert verdicts()["made.json"] == ("made by other code", "made.json")


@pytest.mark.parametrize("content", [None, "", '{"format": 1, "sha', "[]", '{"format": 1}'])
def test_a_missing_or_half_written_record_is_an_unknown_origin(project, content):
    path = sidecars.sidecar(Path("results/a.json"))
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert set(verdicts().values()) == {("of unknown origin", "a.json")}


def test_a_cut_off_result_says_how_much_there_is(project, capsys):
    path = Path("results/report.html")
    path.write_bytes(path.read_bytes()[:7])
    assert verify.main(["results/report.html"]) == 1
    assert "7 bytes of 31" in capsys.readouterr().out


def test_a_deleted_result_is_not_passed_over(project):
    Path("results/report.html").unlink()
    assert verdicts()["report.html"] == ("changed since", "report.html")


def test_a_file_that_nobody_recorded_is_not_intact(project):
    Path("results/extra.csv").write_text("from somewhere")
    assert verdicts()["extra.csv"] == ("of unknown origin", "extra.csv")


def test_swapped_files_are_noticed_with_their_records(project):
    made("results/r0/x.json", "stimuli.csv")
    made("results/r1/x.json", "stimuli.csv")
    shutil.copytree("results/r1", "results/r0", dirs_exist_ok=True)
    assert verdicts()["r0/x.json"] == ("changed since", "x.json")
    with pytest.raises(RecordError, match=r"results/r1/x\.json, was put in its place"):
        sidecars.input_digests(["results/r0/x.json"], "results")


def test_results_may_be_moved(project):
    Path("results").rename("elsewhere")
    assert set(verdicts("elsewhere").values()) == {None}


@pytest.mark.parametrize("content", ["content of results/a.js", "edited\n"])
def test_a_job_refuses_an_input_that_is_not_what_was_made(project, content):
    Path("results/a.json").write_text(content)
    with pytest.raises(RecordError, match=r"results/a\.json: changed since the rule make_a"):
        sidecars.input_digests(["results/a.json"], "results")
    sidecars.forget(["results/a.json"])
    assert sidecars.input_digests(["results/a.json"], "results")


def test_records_say_what_was_made_together(project):
    for name in ("results/x", "results/y"):
        Path(name).write_text(name)
    recorded(["results/x", "results/y"])
    record = json.loads(sidecars.sidecar(Path("results/x")).read_text())
    assert record["made_with"] == {"results/y": file_digest(Path("results/y"))}
    assert record["bytes"] == len("results/x")


def test_logs_and_benchmarks_are_no_results(project):
    for folder in ("logs", "benchmarks"):
        Path("results", folder).mkdir()
        Path("results", folder, "x.txt").write_text("x")
    assert set(verdicts().values()) == {None}


# --- the same by the scripts in R

R_JOB = """
for (name in c("common.R", "provenance.R")) {{
  source(file.path("{root}", "scripts", "lib", name))
}}
inputs <- input_digests("results/a.json", "results")
records <- input_records(names(inputs))
outputs <- c("results/r/x.csv", "results/r/\u00fc.png")
dir.create("results/r", showWarnings = FALSE)
cat(strrep("x", 100000L), file = outputs[1L])
cat("y", file = outputs[2L])
now <- utc_now()
facts <- c(
  list(
    rule = "analysis", wildcards = as_object(list()), started = now, inputs = as_object(inputs),
    input_records = as_object(records), code = list(step.py = "{code}"),
    settings = list(cell = list(draws = 1000L, margin = 1e-20, text = "\u201equoted\u201c"))
  ),
  git_state("."),
  list(hardware = this_machine(), versions = list(R = "4"), completed = utc_now())
)
write_sidecars(outputs, "results", facts)
"""
ROOT = Path(__file__).parents[2]


def run_in_r() -> subprocess.CompletedProcess[str]:
    code = R_JOB.format(root=ROOT, code=source_digest(Path("step.py")))
    Path("job.R").write_text(code, encoding="utf-8")
    return subprocess.run(
        ["Rscript", "--vanilla", "--encoding=UTF-8", "job.R"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_records_that_r_writes_are_chained_and_intact(project):
    done = run_in_r()
    assert done.returncode == 0, done.stderr
    assert set(verdicts().values()) == {None}
    record = sidecars.read_sidecar(Path("results/r/x.csv"))
    assert record is not None
    assert record["format"] == 2
    assert record["input_records"] == sidecars.input_records(["results/a.json"])
    assert record["made_with"] == {"results/r/ü.png": file_digest(Path("results/r/ü.png"))}
    forged(Path("results/a.json"), lambda record: record.update(commit="1" * 40))
    assert verdicts()["r/x.csv"] == ("changed since", "a.json.json")


@pytest.mark.parametrize("edit", ["digest", "content", "cut", "emptied", "swapped"])
def test_r_refuses_an_input_whose_record_was_edited(project, edit):
    path = sidecars.sidecar(Path("results/a.json"))
    text = path.read_text()
    if edit == "swapped":
        made("results/c.json", "stimuli.csv")
        shutil.copy("results/c.json", "results/a.json")
        shutil.copy(sidecars.sidecar(Path("results/c.json")), path)
    else:
        path.write_text(
            {
                "digest": text.replace(json.loads(text)["digest"], "0" * 64),
                "content": text.replace("make_a", "make_b"),
                "cut": text[:200],
                "emptied": "",
            }[edit]
        )
    done = run_in_r()
    assert done.returncode != 0
    assert "results/a.json" in done.stderr
    assert ("was put in its place" if edit == "swapped" else "edited or cut off") in done.stderr


@pytest.mark.parametrize("edit", ["digest", "content", "cut", "emptied"])
def test_a_job_refuses_an_input_whose_record_was_edited(project, edit):
    path = sidecars.sidecar(Path("results/a.json"))
    text = path.read_text()
    path.write_text(
        {
            "digest": text.replace(json.loads(text)["digest"], "0" * 64),
            "content": text.replace("make_a", "make_b"),
            "cut": text[:200],
            "emptied": "",
        }[edit]
    )
    with pytest.raises(RecordError, match=r"Nothing is made from results/a\.json therefore"):
        sidecars.input_digests(["results/a.json"], "results")


def test_a_job_that_would_write_a_record_that_is_none_fails(project):
    with pytest.raises(ValidationError, match="strange"):
        sidecars.write_sidecars(["results/a.json"], "results", facts_of_a_job(strange=1))
