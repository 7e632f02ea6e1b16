"""Bad trial files: each error names the file, the row, the column and what to do."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from grace.errors import StimuliError
from grace.stimuli import read_trials
from grace.studies import Study
from grace.studies.study1 import Study1Trial
from grace.studies.study1_answers import Study1
from grace.studies.study2_answers import Study2

BUNDLED = Path(__file__).parents[2] / "resources" / "stimuli"
Table = list[list[str]]
Read = Callable[[Study, bytes | Table], list[object]]


def table(study: Study, rows: int = 3) -> Table:
    """Header and the first rows of the bundled file."""
    with (BUNDLED / f"{study.name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[: rows + 1]


def encoded(content: Table) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(content)
    return text.getvalue().encode()


def changed(study: Study, row: int, **cells: str) -> Table:
    """The bundled table with some cells of one row (2 is the first trial) replaced."""
    content = table(study)
    for name, value in cells.items():
        content[row - 1][content[0].index(name)] = value
    return content


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(study: Study, content: bytes | Table) -> list[object]:
        path = tmp_path / "my.csv"
        path.write_bytes(content if isinstance(content, bytes) else encoded(content))
        return list(read_trials(path, study))

    return read


def problem(read: Read, study: Study, content: bytes | Table) -> str:
    """The error's text, without the folder."""
    with pytest.raises(StimuliError) as caught:
        read(study, content)
    lines = str(caught.value).split("\n")
    return "\n".join(line.rpartition("/")[2] if "my.csv" in line else line for line in lines)


@pytest.mark.parametrize("content", [b"", b" \n\r\n"])
def test_empty_file(read: Read, content: bytes) -> None:
    assert problem(read, Study1(), content) == (
        "my.csv: the file is empty; it needs a header and at least one trial."
    )


def test_header_without_trials(read: Read) -> None:
    text = problem(read, Study1(), table(Study1(), rows=0))
    assert text == "my.csv: the file has a header but no trials."


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StimuliError, match=r"nope\.csv: no such file\. Check .*study1_csv"):
        read_trials(tmp_path / "nope.csv", Study1())


def test_folder_in_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(StimuliError, match=f"{tmp_path}: cannot be read: Is a directory"):
        read_trials(tmp_path, Study1())


def test_not_utf8(read: Read) -> None:
    content = encoded(changed(Study1(), 3, speach="Zoë says 2.")).replace("ë".encode(), b"\xeb")
    assert problem(read, Study1(), content) == (
        "my.csv, line 3: not UTF-8 (byte 0xeb). Save the file as 'CSV UTF-8'."
    )


def test_missing_column(read: Read) -> None:
    content = [row[:-1] for row in table(Study1())]
    text = problem(read, Study1(), content)
    assert text.startswith("my.csv, row 1: study1 needs the column observe; the file has ")


def test_misspelt_column(read: Read) -> None:
    content = table(Study2())
    content[0][content[0].index("Scenario")] = "Scenrio"
    text = problem(read, Study2(), content)
    assert text.startswith("my.csv, row 1: study2 needs the column Scenario; ")
    assert text.endswith("Rename 'Scenrio' to 'Scenario'?")


def test_semicolons(read: Read) -> None:
    content = encoded(table(Study1(), rows=0)).replace(b",", b";")
    text = problem(read, Study1(), content)
    assert text.endswith("Save the file with commas between the columns.")


def test_column_twice(read: Read) -> None:
    content = [[*row, row[-1]] for row in table(Study1())]
    assert problem(read, Study1(), content) == (
        "my.csv, row 1: the column observe stands there twice."
    )


def test_row_of_another_length(read: Read) -> None:
    content = table(Study1())
    content[2].append("more")
    assert problem(read, Study1(), content) == "my.csv, row 3: 10 cells, but the header has 9."


def test_open_quotation_mark(read: Read) -> None:
    content = encoded(table(Study1())) + b'"4,exams\n'
    text = problem(read, Study1(), content)
    assert text.startswith("my.csv, line 5: not a readable CSV file")
    assert "quotation mark" in text


@pytest.mark.parametrize(
    ("study", "cells", "message"),
    [
        (Study1(), {"participant_id": ""}, "participant_id is '': must not be empty"),
        (Study2(), {"Participant_ID": "  "}, "Participant_ID is '  ': must not be empty"),
        (Study2(), {"SP_Name": ""}, "SP_Name is '': must not be empty"),
        (Study1(), {"access": "0"}, "access is '0': must be 1, 2 or 3"),
        (Study1(), {"access": "4"}, "access is '4': must be 1, 2 or 3"),
        (Study1(), {"access": "two"}, "access is 'two': must be 1, 2 or 3"),
        (Study1(), {"observe": "1.5"}, "observe is '1.5': must be 1, 2 or 3"),
        (Study1(), {"observe": ""}, "observe is '': must be 1, 2 or 3"),
        (
            Study1(),
            {"access": "1", "observe": "2"},
            "observe is 2 but access is 1: a speaker can report at most as many things as were"
            " looked at",
        ),
        (
            Study1(),
            {"priorQ": "How many?"},
            "priorQ is 'How many?': must hold a question of the form 'How many of the 3 <things>"
            " do you think <have the property>?', from which the prompts take the property",
        ),
        (
            Study2(),
            {"Goal": "cheer up"},
            "Goal is 'cheer up': must be one of informative, social, both, or a clause that"
            " mentions being 'informative' or 'accurate', to 'feel good', or 'both'",
        ),
        (
            Study2(),
            {"State": "4 hearts"},
            "State is '4 hearts': must be one of '0 hearts', '1 heart', '2 hearts', '3 hearts'",
        ),
    ],
)
def test_bad_cell(read: Read, study: Study, cells: dict[str, str], message: str) -> None:
    assert problem(read, study, changed(study, 3, **cells)) == f"my.csv, row 3: {message}."


@pytest.mark.parametrize("study", [Study1(), Study2()])
def test_duplicate_participant(read: Read, study: Study) -> None:
    content = table(study)
    content.append(content[1])
    who, what = study.key_columns
    assert problem(read, study, content).startswith(
        f"my.csv, row 5: {who} '1' and {what} '{content[1][1]}' stand in row 2 already"
    )


def test_every_bad_row_is_named_up_to_ten(read: Read) -> None:
    content = table(Study1(), rows=14)
    for row in content[1:]:
        row[7] = "9"
    lines = problem(read, Study1(), content).split("\n")
    assert [line[: len("my.csv, row 00")].rstrip(":") for line in lines[:10]] == [
        f"my.csv, row {row}" for row in range(2, 12)
    ]
    assert lines[10:] == ["… and 4 more."]


def test_the_whole_file_is_checked_whatever_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_bytes(encoded(changed(Study1(), 4, access="9")))
    with pytest.raises(StimuliError, match="row 4"):
        read_trials(path, Study1(), limit=1)
    path.write_bytes(encoded(table(Study1())))
    assert len(read_trials(path, Study1(), limit=2)) == 2


def test_files_as_spreadsheets_write_them(read: Read) -> None:
    plain = encoded(table(Study1()))
    wanted = read(Study1(), plain)
    assert len(wanted) == 3
    blank_lines = plain.replace(b"\r\n", b"\r\n\r\n,,,,,,,,\r\n")
    for content in (b"\xef\xbb\xbf" + plain, plain.replace(b"\r\n", b"\n"), blank_lines):
        assert read(Study1(), content) == wanted


def test_numbers_written_with_a_decimal(read: Read) -> None:
    (trial, *_) = read(Study1(), changed(Study1(), 2, access="2.0", observe=" 1 "))
    assert isinstance(trial, Study1Trial)
    assert (trial.access, trial.observe) == (2, 1)


def test_other_spellings_orders_and_columns(read: Read) -> None:
    content = table(Study1())
    wanted = read(Study1(), content)
    other = [[*row[::-1], "x"] for row in content]
    other[0] = [{"speach": " speech ", "speachQ": "speechQ"}.get(n, n) for n in other[0]]
    assert read(Study1(), other) == wanted
