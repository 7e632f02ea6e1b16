"""Whatever is done to a finished run, its records, its journal or its archive, `verify` names it.

Each tampering is done to a copy of one small run. Those of records are done twice where that makes
a difference: by a careless hand, and by one that recomputes the record's own digest.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import finished_run as run
import pytest

from grace.digests import file_digest
from grace.journal.lines import key_in, line_of, value_in
from grace.journal.segments import segments_in
from grace.provenance import chain, verify
from grace.provenance.sidecars import record_digest, sidecar

JOURNAL = Path(".grace/journal")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run.build(Path())
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may tamper with, as the working directory."""
    shutil.copytree(finished, tmp_path / "project", symlinks=True)
    monkeypatch.chdir(tmp_path / "project")
    return Path()


def broken() -> dict[str, chain.Link]:
    """The results that are not intact, by path, with why."""
    followed = chain.Chain(Path(), verify.answers_in(JOURNAL))
    links = {str(file): followed.broken(file) for file in chain.results_in(Path("results"))}
    return {file: link for file, link in links.items() if link is not None}


def edit(name: str, change: Callable[[dict[str, Any]], Any], *, forge: bool = False) -> None:
    """Change a result's record; a forger gives it a digest that fits."""
    path = sidecar(Path(name))
    record = json.loads(path.read_text())
    change(record)
    if forge:
        run.rewritten(path, record)
    else:
        path.write_text(json.dumps(record, indent=2) + "\n")


def put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.__setitem__(key, value)


def test_an_untouched_run_is_intact_and_compared_with_its_journal(project, capsys):
    assert broken() == {}
    assert verify.main([]) == 0
    report = capsys.readouterr().out
    assert f"{len(run.FILES)} of {len(run.FILES)} files are intact." in report
    assert "not compared" not in report
    assert "older" not in report
    digest = record_digest(Path(run.REPORT))
    assert f"have the digest {digest}.\n" in report
    assert verify.main(["--digest", str(digest)]) == 0
    assert verify.main(["--digest", "0" * 64]) == 1


# --- files


def appended(name: str) -> None:
    with Path(name).open("a") as file:
        file.write("x")


def truncated(name: str) -> None:
    os.truncate(name, 3)


def one_byte_changed(name: str) -> None:
    content = bytearray(Path(name).read_bytes())
    content[-2] ^= 1
    Path(name).write_bytes(content)


def emptied(name: str) -> None:
    Path(name).write_bytes(b"")


def linked(name: str) -> None:
    """To the very same bytes, which may be others tomorrow."""
    shutil.move(name, "elsewhere")
    Path(name).symlink_to(Path("elsewhere").absolute())


def deleted(name: str) -> None:
    Path(name).unlink()


def made_a_folder(name: str) -> None:
    Path(name).unlink()
    Path(name).mkdir()


@pytest.mark.parametrize("name", [run.ANSWERS, run.TABLE, run.FIGURE, run.REPORT])
@pytest.mark.parametrize(
    "tamper", [appended, truncated, one_byte_changed, emptied, linked, deleted, made_a_folder]
)
def test_a_file_that_was_tampered_with_is_named(project, tamper, name):
    tamper(name)
    found = broken()
    assert found[name].file == Path(name)
    assert run.REPORT in found


def test_a_file_that_nothing_was_made_from_is_missed_though_its_record_is_gone_too(project):
    """As the Parquet files; what the same job made names it."""
    table = f"{run.MODEL}/study1_raw_responses.parquet"
    Path(table).write_text("the same")
    run.record(Path(), [run.TABLE, table], run.ANSWERS, run.SCORES)
    run.record(Path(), [run.CELLS, run.FIGURE], run.TABLE)
    run.record(Path(), [run.REPORT], run.CELLS, run.FIGURE)
    assert broken() == {}
    deleted(table)
    sidecar(Path(table)).unlink()
    assert broken()[run.REPORT].file == Path(table)


@pytest.mark.parametrize("name", [run.STIMULI, run.PROMPT, run.STEP])
@pytest.mark.parametrize("tamper", [truncated, deleted])
def test_a_source_that_was_tampered_with_is_named(project, tamper, name):
    tamper(name)
    found = broken()
    assert name in f"{found[run.REPORT].file} {found[run.REPORT].why}"


@pytest.mark.parametrize("records", [False, True])
def test_swapped_files_are_named_with_and_without_their_records(project, records):
    pairs = [(run.ANSWERS, run.SCORES), (run.TABLE, run.CELLS)]
    for one, other in pairs:
        swap(Path(one), Path(other))
        if records:
            swap(sidecar(Path(one)), sidecar(Path(other)))
    found = broken()
    assert {name for pair in pairs for name in pair} <= found.keys()


def swap(one: Path, other: Path) -> None:
    one.rename("aside")
    other.rename(one)
    Path("aside").rename(other)


@pytest.mark.parametrize("name", ["results/extra.csv", "results/tiny/.provenance/notes.txt"])
def test_a_file_that_was_added_is_named(project, name):
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("from somewhere")
    assert set(broken()) == {name}


def test_a_folder_that_was_replaced_by_a_link_is_named(project):
    shutil.move("results/analysis", "elsewhere")
    Path("results/analysis").symlink_to(Path("elsewhere").absolute())
    assert "results/analysis" in broken()


def test_a_folder_of_records_that_was_replaced_by_a_link_is_named(project):
    shutil.move("results/analysis/.provenance", "elsewhere")
    Path("results/analysis/.provenance").symlink_to(Path("elsewhere").absolute())
    assert broken().keys() == {"results/analysis/.provenance"}


# --- records: every field of each kind of record

FIELDS: list[tuple[str, str, Any]] = [
    (name, key, value)
    for name in (run.ANSWERS, run.TABLE, run.FIGURE, run.REPORT)
    for key, value in (
        ("digest", "0" * 64),
        ("format", 3),
        ("results", "other"),
        ("path", "results/other.csv"),
        ("sha256", "1" * 64),
        ("bytes", 1),
        ("made_with", {"results/other.csv": "1" * 64}),
        ("rule", "another"),
        ("wildcards", {"model": "other"}),
        ("started", "2020-01-01T00:00:00.000+00:00"),
        ("completed", "2020-01-01T00:00:00.000+00:00"),
        ("inputs", {}),
        ("input_records", {run.STIMULI: "1" * 64}),
        ("code", {run.STEP: "1" * 64}),
        ("commit", "1" * 40),
        ("dirty", True),
        ("settings", {"output_config": {"limit": 3}}),
        ("hardware", {"node": "other", "pod": None, "platform": "Linux", "cpus": 2}),
        ("versions", {"python": "2.7"}),
        ("model", {"name": "other"}),
        ("tokenizer", {"tokenizer": "1" * 64}),
        ("engine", {"engine": "other"}),
        ("seeds", {"replication": 2}),
        ("files", {}),
        ("identity", {"name": "other"}),
        ("extra", "a key that is none"),
    )
]


@pytest.mark.parametrize(("name", "key", "value"), FIELDS)
def test_an_edited_field_of_a_record_is_named(project, name, key, value):
    edit(name, put(key, value))
    assert broken()[name].file == Path(name)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [one for one in FIELDS if one[0] != run.REPORT and one[1] != "digest"],
)
def test_an_edited_field_is_named_though_the_records_own_digest_was_made_anew(
    project, name, key, value
):
    edit(name, put(key, value), forge=True)
    assert run.REPORT in broken()


@pytest.mark.parametrize("forge", [False, True])
@pytest.mark.parametrize("key", sorted({key for _, key, _ in FIELDS} - {"extra", "identity"}))
def test_a_field_that_was_taken_out_is_named(project, key, forge):
    edit(run.ANSWERS, lambda record: record.pop(key), forge=forge and key != "digest")
    assert run.REPORT in broken()


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "null", "NaN", '{"format": 1}', '{"format": 2}', "[" * 100_000]
)
def test_an_emptied_record_is_named(project, content):
    sidecar(Path(run.TABLE)).write_text(content)
    found = broken()
    assert found[run.TABLE].state == "of unknown origin"
    assert run.REPORT in found


def test_a_removed_record_is_named(project):
    sidecar(Path(run.TABLE)).unlink()
    assert {run.TABLE, run.CELLS, run.REPORT} <= broken().keys()


def test_a_record_that_is_a_link_is_named(project):
    path = sidecar(Path(run.TABLE))
    path.rename("elsewhere")
    path.symlink_to(Path("elsewhere").absolute())
    assert "no ordinary file" in broken()[run.TABLE].why


@pytest.mark.parametrize("name", [run.TABLE, run.REPORT])
def test_a_key_that_stands_twice_is_named_though_the_digest_was_made_anew(project, name):
    path = sidecar(Path(name))
    text = path.read_text().replace('  "rule": "step"', '  "rule": "x",\n  "rule": "step"')
    path.write_text(text)
    path.write_text(text.replace(json.loads(text)["digest"], str(record_digest(Path(name)))))
    assert "'rule' stands there twice" in broken()[name].why


@pytest.mark.parametrize("name", [run.ANSWERS, run.TABLE, run.FIGURE, run.REPORT])
def test_a_record_lowered_to_the_older_format_is_named(project, name):
    edit(name, run.lowered)
    assert broken()[run.REPORT].state == "changed since"
    edit(name, put("hardware", {"node": "x", "pod": None, "platform": "y", "cpus": 1}))
    assert run.REPORT in broken()


def test_a_record_of_another_run_is_named(project, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    run.build(Path())
    edit(run.TABLE, put("started", "2026-11-19T10:00:00.000+00:00"), forge=True)
    monkeypatch.chdir(tmp_path / "project")
    shutil.copy(other / sidecar(Path(run.TABLE)), sidecar(Path(run.TABLE)))
    found = broken()
    assert run.TABLE not in found  # which is the same to the byte
    assert found[run.CELLS].file == sidecar(Path(run.TABLE))
    assert "made again since" in found[run.CELLS].why


def test_a_file_that_was_changed_with_its_record_is_named(project):
    Path(run.TABLE).write_text("trial,answer\n0,99%\n1,99%\n")
    content = Path(run.TABLE)
    edit(
        run.TABLE,
        lambda record: record.update(sha256=file_digest(content), bytes=content.stat().st_size),
        forge=True,
    )
    found = broken()
    assert found[run.CELLS].file == Path(run.TABLE)
    assert run.REPORT in found


def test_one_of_two_files_of_a_job_changed_with_its_record_is_named(project):
    Path(run.FIGURE).write_text("another picture")
    edit(
        run.FIGURE,
        lambda record: record.update(
            sha256=file_digest(Path(run.FIGURE)), bytes=Path(run.FIGURE).stat().st_size
        ),
        forge=True,
    )
    found = broken()
    assert run.CELLS in found
    assert run.REPORT in found


def test_a_report_forged_with_its_record_has_another_digest(project):
    published = str(record_digest(Path(run.REPORT)))
    edit(run.REPORT, put("commit", "1" * 40), forge=True)
    assert broken() == {}  # nothing inside can tell: docs/provenance.md
    assert verify.main(["--digest", published]) == 1


# --- results of format 1


def test_results_with_older_records_are_intact_and_said_to_be_unchained(project, capsys):
    for name in run.FILES:
        edit(name, run.lowered)
    assert broken() == {}
    assert verify.main([]) == 0
    report = capsys.readouterr().out
    assert "older record format, not chained" in report
    assert "have the digest" not in report
    Path(run.TABLE).write_text("changed")
    assert run.REPORT in broken()


@pytest.mark.parametrize("writer", chain.WRITERS)
def test_all_records_lowered_to_the_older_format_are_named_where_the_code_writes_the_present_one(
    project, writer
):
    for name in run.FILES:
        edit(name, run.lowered)
    assert (Path(__file__).parents[2] / chain.WRITERS[0]).is_file()
    writer = Path(writer)
    writer.parent.mkdir(parents=True)
    writer.touch()
    found = broken()
    assert found.keys() == set(run.FILES)
    assert {link.state for link in found.values()} == {"of unknown origin"}
    assert "it was lowered" in found[run.REPORT].why


def test_new_records_chain_those_of_older_format_that_they_are_made_from(project):
    for name in run.FILES[:4]:
        edit(name, run.lowered)
    run.record(Path(), [run.TABLE], run.ANSWERS, run.SCORES)
    run.record(Path(), [run.CELLS, run.FIGURE], run.TABLE)
    run.record(Path(), [run.REPORT], run.CELLS, run.FIGURE)
    assert broken() == {}
    edit(run.ANSWERS, put("versions", {"python": "2.7"}))
    assert run.REPORT in broken()


# --- the journal


def lines_of(kind: str) -> tuple[Path, list[bytes], list[int]]:
    """A segment, its lines, and which of them are answers of a kind."""
    (segment,) = segments_in(JOURNAL)
    lines = segment.read_bytes().splitlines(keepends=True)
    return (
        segment,
        lines,
        [place for place, line in enumerate(lines) if (value_in(line) or {}).get("kind") == kind],
    )


def edited_line(line: bytes, **other: Any) -> bytes:
    key, value = key_in(line), value_in(line)
    assert key is not None
    assert value is not None
    value["answer"] |= other
    return line_of(key, value)


ANSWER_FIELDS = [
    ("generation", run.ANSWERS, {"text": "99%"}),
    ("generation", run.ANSWERS, {"reasoning": "because"}),
    ("generation", run.ANSWERS, {"finish_reason": "length"}),
    ("generation", run.ANSWERS, {"usage": {"completion_tokens": 3}}),
    ("generation", run.ANSWERS, {"completed_at": "2020-01-01T00:00:00.000+00:00"}),
    ("generation", run.ANSWERS, {"no_field": 1}),
    ("score", run.SCORES, {"token_logprobs": [[-0.5], [-1.26]]}),
    ("score", run.SCORES, {"terminator_logprobs": [-0.125, -0.26]}),
    ("score", run.SCORES, {"token_logprobs": None}),
]


@pytest.mark.parametrize(("kind", "name", "other"), ANSWER_FIELDS)
def test_an_answer_edited_in_the_journal_with_its_checksum_is_named(project, kind, name, other):
    segment, lines, places = lines_of(kind)
    lines[places[0]] = edited_line(lines[places[0]], **other)
    segment.write_bytes(b"".join(lines))
    assert "not the answer that the journal" in broken()[name].why
    assert "trial 0, variant seed" in broken()[name].why


@pytest.mark.parametrize(("kind", "name"), [("generation", run.ANSWERS), ("score", run.SCORES)])
def test_an_answer_removed_from_the_journal_is_named(project, kind, name):
    segment, lines, places = lines_of(kind)
    del lines[places[1]]
    segment.write_bytes(b"".join(lines))
    assert "no longer holds its answer" in broken()[name].why


def test_a_damaged_line_of_the_journal_is_named(project):
    segment, lines, places = lines_of("score")
    lines[places[0]] = lines[places[0]].replace(b"-1.25", b"-1.26")
    segment.write_bytes(b"".join(lines))
    assert "no longer holds its answer" in broken()[run.SCORES].why


@pytest.mark.parametrize("removed", [True, False])
def test_a_job_that_the_journal_contradicts_is_named(project, removed):
    """Runs that take its answers over would tell the commit and the machine of no one."""
    segment, lines, places = lines_of("session")
    key, value = key_in(lines[places[0]]), value_in(lines[places[0]])
    assert key is not None
    assert value is not None
    lines[places[0]] = b"" if removed else line_of(key, {**value, "commit": "1" * 40})
    segment.write_bytes(b"".join(lines))
    assert "which job gave 2 of its answers" in broken()[run.ANSWERS].why


@pytest.mark.parametrize("session", [None, "of its own"])
@pytest.mark.parametrize("before", [True, False])
def test_a_second_answer_put_into_the_journal_is_named(project, before, session):
    segment, lines, places = lines_of("generation")
    forged = edited_line(lines[places[0]], text="99%")
    if session:
        key, value = key_in(forged), value_in(forged)
        assert key is not None
        assert value is not None
        forged = line_of(key, {**value, "session": "5" * 64})
    name = "20200101T000000" if before else "20990101T000000"
    segment.with_name(f"{name}.000000-host-1-00000000.jsonl").write_bytes(forged)
    assert "was edited: it has two answers" in broken()[run.ANSWERS].why


def test_two_jobs_that_were_answered_at_a_time_are_no_tampering(project):
    segment, lines, places = lines_of("generation")
    key, value = key_in(lines[places[0]]), value_in(lines[places[0]])
    assert key is not None
    assert value is not None
    session = line_of(bytes.fromhex("5" * 64), {"kind": "session"})
    other = line_of(key, {**value, "session": "5" * 64, "answer": {**value["answer"], "text": "?"}})
    segment.with_name("20990101T000000.000000-host-1-0.jsonl").write_bytes(session + other)
    assert broken() == {}


@pytest.mark.parametrize("another", [False, True], ids=["deleted", "another's"])
def test_answers_without_their_journal_are_a_warning_and_an_error_if_it_was_named(
    project, capsys, another
):
    shutil.rmtree(JOURNAL)
    if another:
        JOURNAL.mkdir()
    assert verify.main([]) == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith("Warning: ")]
    assert run.ANSWERS in line
    assert (f"{JOURNAL} holds none" if another else "there is no journal at hand") in line
    assert verify.main(["--journal", str(JOURNAL)]) == 1


@pytest.mark.parametrize("name", [run.ANSWERS, run.SCORES])
def test_answers_edited_with_all_records_behind_them_are_reported_by_the_journal(project, name):
    path = Path(name)
    text = path.read_text()
    path.write_text(text.replace("60%", "99%", 1).replace("-1.25", "-1.26", 1))
    assert path.read_text() != text
    facts = f"{path.parent}/provenance/{path.name}"
    run.record(Path(), [name, facts], run.STIMULI)
    run.record(Path(), [run.TABLE], run.ANSWERS, run.SCORES)
    run.record(Path(), [run.CELLS, run.FIGURE], run.TABLE)
    run.record(Path(), [run.REPORT], run.CELLS, run.FIGURE)
    assert "not the answer that the journal" in broken()[run.REPORT].why
