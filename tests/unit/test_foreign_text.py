"""Text from servers, models and old journals: whatever it holds, files can hold what we keep."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from bundled_studies import STUDIES
from engines_for_tests import CharacterTokenizer, ScriptedEngine, journaled
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_runs import DECODING, items_of, run_of

from grace.digests import digest
from grace.engines.answer_keys import AnswerKeys
from grace.engines.base import Generation, GenerationRequest
from grace.errors import GraceError
from grace.experiments.generation import run_generation
from grace.foreign_text import MOST_IN_NAME, message, plain_name, writable
from grace.journal import Journal
from grace.results.records import read_records, write_records
from grace.results.tables import (
    raw_columns,
    raw_rows,
    read_rows,
    structured_columns,
    structured_rows,
    write_rows,
)
from grace.runs.scripting import logged

STUDY2 = STUDIES["study2"]
#: What servers, models and gateways have been seen to send, or may.
HOSTILE = {
    "half an emoji": "good \ud83d",
    "the other half": "\ude00 good",
    "bytes that are no UTF-8": b"caf\xc3".decode("utf-8", "surrogateescape"),
    "NUL": "It was\0good",
    "CR": "It was\rgood",
    "CR alone": "\r",
    "line separators": "It\u2028was\x85good\x0b\x0c\x1c",
    "quotes": '"It", was\n"good"',
    "byte order mark": "\ufeffIt was good",
    "escape": "\x1b[2J\x1a",
    "no character": "\ufffe\uffff",
    "no value": "NA",
}


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_writable_text_is_utf_8_without_nul_and_counts_what_it_replaced(text: str) -> None:
    found, replaced = writable(text)
    assert found.encode().decode() == found
    assert "\0" not in found
    assert len(found) == len(text)
    assert replaced == sum(a != b for a, b in zip(text, found, strict=True))
    assert writable(found) == (found, 0)


@given(st.one_of(st.text(alphabet=st.characters(exclude_categories=())), st.integers(), st.none()))
def test_a_name_is_bounded_and_means_nothing_to_markdown_html_or_a_terminal(value: Any) -> None:
    found, replaced = plain_name(value)
    if found is None:
        assert value in (None, "")
        return
    assert len(found) <= MOST_IN_NAME + 3
    assert not set(found) & set("![]()<>`*_\\|$&;\"'{}\n\r\t\x1b\0") - {"_"}
    assert found.count("\ufffd") == replaced
    assert plain_name("gpt-4o-2024-08-06") == ("gpt-4o-2024-08-06", 0)


def test_a_message_is_one_short_line_that_a_terminal_can_show() -> None:
    assert message("no\nsuch\tmodel \x1b[2J\u202e\ud83d") == "no such model \ufffd[2J\ufffd\ufffd"
    assert len(message("x" * 10**6)) < 510


def answering(*texts: str) -> ScriptedEngine:
    return ScriptedEngine(lambda prompt, seed: texts[seed % len(texts)])


def tables(records: list[dict[str, Any]], folder: Path) -> tuple[list[dict[str, str]], Path]:
    write_rows(folder / "raw.csv", raw_rows(records, STUDY2), raw_columns(STUDY2))
    rows = list(read_rows(folder / "raw.csv", raw_columns(STUDY2)))
    path = folder / "structured.csv"
    write_rows(path, structured_rows(rows, STUDY2, 1.0), structured_columns(STUDY2))
    return list(read_rows(path, structured_columns(STUDY2))), path


def test_every_text_goes_through_records_and_tables_to_the_last_row(tmp_path: Path) -> None:
    run = run_of("study2", "exp1")
    with Journal(tmp_path / "journal") as journal:
        engine = journaled(answering(*HOSTILE.values()), journal)
        records = list(
            run_generation(run, items_of(run, 40), CharacterTokenizer(), engine, DECODING)
        )
    write_records(tmp_path / "records.json", records)
    records = list(read_records(tmp_path / "records.json"))
    texts = [list(HOSTILE.values())[record["request_seed"] % len(HOSTILE)] for record in records]
    assert {record["response"] for record in records} == {writable(text)[0] for text in texts}
    rows, path = tables(records, tmp_path)
    assert [row["model_response"] for row in rows] == [writable(text)[0] for text in texts]
    counts = [writable(text)[1] for text in texts]
    assert [int(row["replaced_characters"]) for row in rows] == counts
    flagged = ["replaced_characters" in row["quality_flags"] for row in rows]
    assert flagged == [count > 0 for count in counts]
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    assert list(table["model_response"]) == [writable(text)[0] for text in texts]
    table.to_parquet(tmp_path / "table.parquet")
    if shutil.which("Rscript"):
        code = f"x <- data.table::fread('{path}'); cat(nrow(x), max(x$trial_index))"
        done = subprocess.run(["Rscript", "-e", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [str(len(rows)), str(table["trial_index"].max())]


class Silent:
    """An engine that is not to be asked."""

    def generate(self, requests: Any) -> Iterator[Generation]:
        assert not list(requests)
        return iter(())


def test_an_answer_kept_before_it_was_cleaned_heals_when_it_is_read(tmp_path: Path) -> None:
    """As earlier versions wrote it: fewer fields, half an emoji, U+0000 in the trace."""
    request = GenerationRequest("k", ({"role": "user", "content": "?"},), (1,), DECODING, 7)
    old = {
        "text": "good \ud83d", "finish_reason": "stop", "usage": {}, "reasoning": "a\0b",
        "completed_at": None, "processing_time_ms": 1.0, "error": None, "of_a_later_version": 1,
    }  # fmt: skip
    with Journal(tmp_path / "journal") as journal:
        engine = journaled(Silent(), journal)
        key = AnswerKeys("transformers", "exp1", {}).of(request)
        journal.add(key, {"kind": "generation", "session": digest({}), "answer": old})
        (answer,) = engine.generate([request])
    assert (answer.text, answer.reasoning) == ("good \ufffd", "a\ufffdb")
    assert answer.replaced_characters == 2
    assert (answer.reported_model, answer.system_fingerprint) == (None, None)
    assert list((tmp_path / "journal").iterdir()), "the journal itself stays as it is"


def test_an_answer_comes_back_from_the_journal_as_it_was_kept(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        kept = journaled(answering("good"), journal)
        request = GenerationRequest("k", ({"role": "user", "content": "?"},), (1,), DECODING, 7)
        (first,) = kept.generate([request])
    segment = next((tmp_path / "journal").glob("*.jsonl"))
    assert "reported_model" in segment.read_text()
    with Journal(tmp_path / "journal") as journal:
        again = journaled(Silent(), journal)
        assert list(again.generate([request])) == [first]


def test_records_of_earlier_versions_become_tables(tmp_path: Path) -> None:
    run = run_of("study2", "exp1")
    engine = answering("It was good")
    records = list(run_generation(run, items_of(run, 4), CharacterTokenizer(), engine, DECODING))
    for record in records:
        for name in ("reported_model", "system_fingerprint", "replaced_characters"):
            del record[name]
    records[0]["response"] = "It was\0good"  # JSON could hold it
    rows, _ = tables(records, tmp_path)
    assert rows[0]["model_response"] == "It was\ufffdgood"
    assert [row["replaced_characters"] for row in rows] == ["1", "0", "0", "0"]


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=()), min_size=1))
def test_no_text_breaks_a_row_or_a_record(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = tmp_path_factory.mktemp("text")
    clean, _ = writable(text)
    write_rows(folder / "t.csv", [{"a": clean, "b": 1}, {"a": "x", "b": clean}], ("a", "b"))
    rows = list(read_rows(folder / "t.csv", ("a", "b")))
    assert rows == [{"a": clean, "b": "1"}, {"a": "x", "b": clean}]
    write_records(folder / "r.json", [{"a": clean}])
    assert json.loads((folder / "r.json").read_text(encoding="utf-8")) == [{"a": clean}]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield tmp_path / "job.log"
    root.handlers[:] = before
    root.setLevel(level)


def test_what_errors_quote_commands_no_terminal_and_ends_no_log(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @logged(str(log))
    def job() -> None:
        logging.getLogger("engine").warning("says \x1b]0;owned\x07 \ud83d \u202egnp \x9b31m\rover")
        raise GraceError("first line\n\tsecond \x1b[2J Ünïcödé 🦉")

    with pytest.raises(SystemExit):
        job()
    for text in (log.read_text(encoding="utf-8"), capsys.readouterr().err):
        assert "says \ufffd]0;owned\ufffd \ufffd \ufffdgnp \ufffd31m\ufffdover" in text
        assert "ERROR first line\n\tsecond \ufffd[2J Ünïcödé 🦉\n" in text
