"""Files of records: whole or not there."""

import json

import pytest

from grace.errors import RecordError
from grace.results.records import read_json, read_records, write_records


def test_records_are_a_json_array_in_order(tmp_path):
    path = tmp_path / "deep" / "records.json"
    write_records(path, ({"n": n, "text": "é\n"} for n in range(3)))
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"n": n, "text": "é\n"} for n in range(3)
    ]
    assert len(path.read_text(encoding="utf-8").splitlines()) == 5


def test_no_records_are_an_empty_array(tmp_path):
    write_records(tmp_path / "none.json", [])
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_a_failure_leaves_the_old_file_and_no_debris(tmp_path):
    path = tmp_path / "records.json"
    write_records(path, [{"n": 1}])

    def broken():
        yield {"n": 2}
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_records(path, broken())
    assert json.loads(path.read_text()) == [{"n": 1}]
    assert [file.name for file in tmp_path.iterdir()] == ["records.json"]


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_records(tmp_path / "records.json", [{"logprob": float("nan")}])


def test_a_cut_file_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "records.json"
    path.write_text('[{"n": 1},')
    with pytest.raises(RecordError, match=r"records\.json: not whole JSON.*Delete"):
        read_json(path)


RECORDS = [{"n": n, "text": 'a\u2028b\x85c\r\n],"'} for n in range(3)]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_records_are_read_back_one_by_one(tmp_path, count):
    path = tmp_path / "records.json"
    write_records(path, RECORDS[:count])
    assert list(read_records(path)) == RECORDS[:count]


def test_records_in_another_layout_are_read_too(tmp_path):
    path = tmp_path / "records.json"
    for indent in (None, 0, 2):
        path.write_text(json.dumps(RECORDS, indent=indent), encoding="utf-8")
        assert list(read_records(path)) == RECORDS


def test_records_that_are_cut_anywhere_are_refused(tmp_path):
    path = tmp_path / "records.json"
    write_records(path, RECORDS)
    whole = path.read_text(encoding="utf-8")
    for length in range(len(whole) - 2):
        path.write_text(whole[:length], encoding="utf-8")
        with pytest.raises(RecordError, match="not whole JSON"):
            list(read_records(path))
