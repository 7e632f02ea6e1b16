"""The reader of users' YAML files: what it gives, and what it refuses with which line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from properties import generated

from grace.errors import ConfigError
from grace.settings import yaml_reader
from grace.settings.yaml_reader import parse_argument, parse_yaml, read_yaml

ROOT = Path(__file__).parents[2]


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "my.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    "path", ["config/config.yaml", "config/models.yaml", "config/clusters.yaml",
             "resources/stimuli/stories.yaml"],
)  # fmt: skip
def test_shipped_files_are_read_as_any_reader_reads_them(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert read_yaml(ROOT / path) == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing\n---\n", None),
        ("a: [1, -2, 3.5, .5, 1.5e+3, ~, null, yes, off, 'no', 1e3, 2026-1]",
         {"a": [1, -2, 3.5, 0.5, 1500.0, None, None, True, False, "no", "1e3", "2026-1"]}),
        ("a: &x {b: [c]}\nd: *x\n", {"a": {"b": ["c"]}, "d": {"b": ["c"]}}),
        ("a: '012'\nb: \"1:30\"\n'1': c\n", {"a": "012", "b": "1:30", "1": "c"}),
        ("\ufeffa: 1", {"a": 1}),
        ('{"json": [true, null, 1.5, "x"]}', {"json": [True, None, 1.5, "x"]}),
    ],
)  # fmt: skip
def test_plain_values(text, value, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_yaml(path) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' stands there again; it is in line 1 already."),
        ("m:\n  a: 1\n  'a': 3", "line 3: the key 'm.a' stands there again; it is in line 2"),
        ("m: {a: 1, a: 1}", "line 1: the key 'm.a' stands there again"),
        ("a: [{b: 1,\n b: 2}]", "line 2: the key 'a.b' stands there again"),
        ("a: 1\nt: 1:30", "line 2: '1:30' is a number in YAML, but another one than it looks like"),
        ("t: 012", "'012' is a number"),
        ("t: 1_000", "'1_000' is a number"),
        ("t: 0x1f", "'0x1f' is a number"),
        ("t: 190:20:30.15", "'190:20:30.15' is a number"),
        ("t: 2026-01-01", "'2026-01-01' is a date in YAML. Write a text in quotation marks"),
        ("no: 1", "the key 'no' is no text in YAML. Write it in quotation marks"),
        ("5: 1", "the key '5' is no text"),
        ("? [a]\n: 1", "a key must be a plain text"),
        ("b: &b {x: 1}\na:\n  <<: *b", "line 3: '<<' has a meaning of its own"),
        ("a: !!python/object/apply:os.system [x]", "tags ('!') are not supported"),
        ("!!str 5: 1", "tags ('!')"),
        ("a: 1\n---\nb: 1", "line 2: a second document begins"),
        ("a: *b", "there is no anchor 'b'"),
        ("a: &b [*b]", "'b' holds itself"),
        ("a: &b 1\nc: &b 2", "line 2: the anchor 'b' is set twice"),
        (f"a: {'9' * 5000}", "a number of 5000 characters; at most 40"),
        (f"a: {'x' * 20_001}", "a text of 20,001 characters; at most 20,000"),
        (f"a: {'[' * 21}", "more than 20 mappings and lists in each other"),
        ("a: &a {b: {c: d}}\n" + "".join(f"{'  ' * n}k{n}:\n" for n in range(18)) + " " * 36
         + "x: *a", "more than 20 mappings and lists in each other"),
        ('a: "\\0"', "a text holds the character U+0000"),
        ('a: "\\ud83d"', "a text holds the character U+D83D"),
        ("a: 1\nb: \x07", "line 2: holds the character U+0007"),
        ("a: [", "not readable as YAML: line 1, column 5"),
    ],
)  # fmt: skip
def test_what_could_be_read_otherwise_is_refused_with_its_line(text, message):
    assert message in refused(text)
    assert refused(text).startswith("my.yaml: ")
    assert "\n" not in refused(text)


@pytest.mark.parametrize("kind", ["[{}, {}]", "{{x: {}, y: {}}}"])
def test_aliases_count_as_often_as_they_repeat(kind):
    def rows(count: int) -> str:
        first = "a0: &a0 " + kind.format(1, 1) + "\n"
        return first + "".join(
            f"a{n}: &a{n} {kind.format(f'*a{n - 1}', f'*a{n - 1}')}\n" for n in range(1, count)
        )

    assert len(parse_yaml(rows(9), "my.yaml")) == 9
    assert "more than 50,000 keys and values up to here" in refused(rows(19))


def test_a_secret_in_a_broken_line_is_not_shown():
    assert "geheim" not in refused("a: {b: https://me:geheim@x.org: }")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("a: é".encode("latin-1"), "line 1: not UTF-8 (byte 0xe9). Save the file as UTF-8."),
        (b"a: 1\n" + "b: ü".encode("cp1252"), "line 2: not UTF-8 (byte 0xfc)"),
        ("a: 1".encode("utf-16"), "line 1: not UTF-8 (byte 0xff)"),
        (b"a: 1\n" * 60_000, "larger than 256 KiB"),
    ],
)
def test_bytes_that_are_no_text(tmp_path, data, message):
    path = tmp_path / "my.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(ConfigError, match="not a file"):
            read_yaml(path)


def test_values_of_the_command_line_are_texts_as_snakemake_takes_them():
    assert parse_argument("{a: 1:30, b: [x, 012]}", "--config k") == {
        "a": "1:30",
        "b": ["x", "012"],
    }
    assert parse_argument("[unclosed", "--config k") == "[unclosed"
    assert parse_argument("null", "--config k") == "null"
    with pytest.raises(ConfigError, match=r"--config k: line 1: the key 'a' stands there again"):
        parse_argument("{a: 1, a: 2}", "--config k")


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**15), 10**15), st.text(max_size=20),
    st.floats(allow_nan=False),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@generated(0.2)
@given(VALUES, st.booleans())
def test_what_is_read_is_what_was_written(value, flow):
    """Or it is refused, as a text with a control character is; never another value."""
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    try:
        found = parse_yaml(text, "my.yaml")
    except ConfigError:
        return
    # PyYAML writes U+0085 as it is, and reads it as the end of a line, as YAML 1.1 has it.
    assume("\x85" not in text)
    assert found == yaml.safe_load(text) == value


@generated(0.3)
@given(st.text("ab:-[]{}&*!|>'\"#%@`, \n?1", max_size=40))
def test_any_text_is_refused_or_read_as_any_reader_reads_it(text):
    try:
        found = parse_yaml(text, "my.yaml")
    except ConfigError:
        return
    assert found == yaml.safe_load(text)


def test_limits_leave_room():
    shipped = (ROOT / "config/models.yaml").stat().st_size
    assert 20 * shipped < yaml_reader.MAX_BYTES
