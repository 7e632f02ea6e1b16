"""A YAML text that was parsed is not parsed again, and its value is what parsing gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from grace import understood
from grace.errors import ConfigError
from grace.settings import parsed_yaml
from grace.settings.parsed_yaml import LEAST, MOST, NAME, remembered
from grace.settings.yaml_reader import parse_yaml

ROOT = Path(__file__).parents[2]
LONG = "a: 1\n" + "# long\n" * LEAST
ODD = f"""{LONG}
numbers: [1, -0.0, .inf, .nan, 123456789012345678901234567890, 1e300, 0.1]
texts: ["\\t", "é", '"', "1", ~, yes, ""]
shared: &one {{b: [{{}}, []]}}
again: *one
"""


class Parser:
    """How often a text was parsed."""

    def __init__(self, library: Path) -> None:
        self.library, self.parsed = library, 0

    def __call__(self, text: str):
        def parse():
            self.parsed += 1
            return parse_yaml(text, "my.yaml")

        return remembered(text, parse, self.library)


def test_a_text_is_parsed_once_and_its_value_is_the_same(tmp_path):
    parser = Parser(tmp_path)
    first, second = parser(ODD), parser(ODD)
    assert parser.parsed == 1
    assert repr(first) == repr(second)
    first["shared"]["b"].append("of whoever asked first")
    assert "of whoever" not in repr(parser(ODD))


def test_another_text_another_parser_and_a_short_one_are_parsed(tmp_path, monkeypatch):
    parser = Parser(tmp_path)
    assert parser(LONG) == {"a": 1}
    assert parser(LONG.replace("1", "2")) == {"a": 2}
    assert parser.parsed == 2
    monkeypatch.setattr(parsed_yaml, "_code", lambda: ["edited"])
    parser(LONG)
    assert parser.parsed == 3
    for _ in range(2):
        parser("a: 1")
    assert parser.parsed == 5


def test_a_mistake_is_found_each_time(tmp_path):
    parser = Parser(tmp_path)
    for _ in range(2):
        with pytest.raises(ConfigError, match="stands there again"):
            parser(f"{LONG}\na: 2\n")
    assert parser.parsed == 2


@pytest.mark.parametrize("kept", [b"", b"{", b"[]"])
def test_a_spoilt_file_costs_parsing_again(tmp_path, kept):
    parser = Parser(tmp_path)
    parser(LONG)
    understood.path_of(tmp_path, NAME).write_bytes(kept)
    assert parser(LONG) == parser(LONG) == {"a": 1}
    assert parser.parsed == 2


def test_no_more_texts_are_kept_than_the_newest(tmp_path):
    parser = Parser(tmp_path)
    texts = [LONG.replace("1", str(number)) for number in range(MOST + 1)]
    for text in texts:
        parser(text)
    parser(texts[-1])
    assert parser.parsed == MOST + 1
    parser(texts[0])
    assert parser.parsed == MOST + 2
