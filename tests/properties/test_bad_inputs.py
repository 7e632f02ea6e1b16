"""Bad input of every kind is refused in words: no traceback, no hang, nothing nonsensical accepted.

364 inputs by seed, and those that once got through. GRACE_EXAMPLES=100000 takes 18,200 seeds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import bad_inputs
import pytest
import refusing
from bad_inputs import CLUSTERS, CONFIG, MODELS, BadInput, dumped, with_file
from properties import EXAMPLES
from workflow_project import Project

SEEDS = range(len(bad_inputs.FAMILIES) * max(14, EXAMPLES * 14 // 2000 // 2))


def bomb(name: str) -> str:
    rows = [f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 40)]
    return f"a0: &a0 {{{name}: 1}}\n" + "\n".join(rows) + "\n"


def argument(entry: str) -> BadInput:
    return BadInput(f"--config {entry[:40]!r}", [entry.split("=")[0]], entries=[entry])


REMOTE = {"name": "x", "engine": "endpoint"}
#: Each of these ended in a traceback or a hang, or was accepted.
KEPT = [
    *(
        with_file(f"results {value!r}", CONFIG, dumped({"results": value}), "results", "U+00")
        for value in ("a\0b", ".", "/", ".git", ".snakemake", "config", "workflow/lib", " ",
        "a\nb", "{model}")
    ),
    *(argument(f"results={value}") for value in (".", "/", ".git", "config", "{a}", "<results>",
    "x" * 300)),
    argument("journal_dir=a\nb"), argument("journal_dir=results"), argument("journal_dir=.git"),
    argument("limit="), argument("study1_csv="), argument("models="), argument("results="),
    argument("replications=1000000"), argument("replications=1001"),
    argument("limit=" + "9" * 5000),
    with_file("alias bomb", MODELS, bomb("name")), with_file("alias bomb", CLUSTERS,
    bomb("namespace")),
    with_file("alias bomb", CONFIG, bomb("x")), with_file("holds itself", MODELS, "a: &a [*a]\n"),
    with_file("5,000 digits", CONFIG, f"limit: {'9' * 5000}\n"),
    with_file("5,000 digits", MODELS, f"a: {{name: x, gpus: {'9' * 5000}}}\n"),
    with_file("5,000 digits as text", CONFIG, f"limit: '{'9' * 5000}'\n", "limit"),
    with_file("5,000 brackets", CONFIG, f"a: {'[' * 5000}{']' * 5000}\n"),
    with_file("no name", MODELS, "a: {name: ''}\n", "a.name"), with_file("dot", MODELS,
    "a: {name: .}\n", "a.name"),
    with_file("far away", MODELS, "a: {name: ../../../etc}\n", "a.name"),
    *(
        with_file(f"base_url {url!r}", MODELS, dumped({"a": {**REMOTE, "base_url": url}}),
        "a.base_url")
        for url in ("http:// ", "http://x\n.org", "http://x.org\n", "http://x.org:99999/v1",
        "http://x.org/ v1", "http://")
    ),
    with_file("Latin-1", CONFIG, "# \u00fc\n".encode("latin-1"), "UTF-8"),
    with_file("UTF-16", MODELS, "a: {name: x}\n".encode("utf-16"), "UTF-8"),
    with_file("a template", CONFIG, "__use_yte__: true\nlimit: ?1 + 1\n", "__use_yte__"),
    *(
        with_file(value, CONFIG, dumped({"serving": {"extra_args": [value]}}), "extra_args")
        for value in ("--api-k=a", "--api_key=a", "--hf-tok=a", "--trust_remote_code", "--por=1",
        "--mod=a", "-q")
    ),
    *(
        with_file(f"the variant {value}", CONFIG, f"variants: [seed, '{value}']\n", "variants")
        for value in ("./seed", "seed/", "../prompts/seed")
    ),
]  # fmt: skip


def outcomes(requests: Iterable[int | BadInput]) -> list[tuple[str, str, BadInput]]:
    lines = [json.dumps(r if isinstance(r, int) else asdict(r)) for r in requests]
    done = subprocess.run(
        [sys.executable, refusing.__file__],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines), done.stderr
    return [(kind, words, BadInput(**bad)) for kind, words, bad in answers]


def hold(requests: list[int | BadInput]) -> None:
    wrong = [
        f"{request if isinstance(request, int) else 'kept'}: {bad.what}: {kind} {words[-900:]}"
        for request, (kind, words, bad) in zip(requests, outcomes(requests), strict=True)
        if kind != "refused" or not is_plain(words, bad)
    ]
    assert not wrong, "\n\n".join([f"{len(wrong)} of {len(requests)}", *wrong[:20]])


def is_plain(words: str, bad: BadInput) -> bool:
    """Whether a message says where, in lines that a person reads and a terminal survives."""
    lines = words.split("\n")
    return (
        any(name in words for name in bad.names)
        and len(lines) <= 25
        and all(line.isprintable() and len(line) < 2000 for line in lines)
    )


def test_what_once_got_through_is_refused():
    assert {bad.what for bad in KEPT}
    hold([*KEPT])


def test_generated_bad_inputs_are_refused():
    assert len(SEEDS) >= 300
    assert bad_inputs.bad_input(7) == bad_inputs.bad_input(7)
    hold([*SEEDS])


def test_the_sound_project_is_accepted():
    sound = [
        BadInput("nothing", []),
        BadInput("settings", [], entries=["limit=null", "results=my results", "models=pico"]),
    ]
    assert [kind for kind, *_ in outcomes(sound)] == ["accepted"] * len(sound)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project.copied_to(tmp_path_factory.mktemp("bad_inputs") / "project")


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        (CONFIG, b"results: caf\xe9\n", "config.yaml: line 1: not UTF-8"),
        (CONFIG, b"limit: " + b"9" * 5000, "a number of 5000 characters"),
        (CONFIG, bomb("x").encode(), "more than 50,000 keys and values"),
        (CONFIG, b'results: "a\\0b"\n', "the character U+0000"),
        (CONFIG, b"limit: 3\nstudies: [study1]\nlimit: 4\n", "'limit' stands there again"),
        (MODELS, bomb("x").encode(), "models.yaml: line "),
        (CLUSTERS, b"a: {}\nb: {}\na: {}\n", "clusters.yaml: line 3: the key 'a'"),
    ],
)
def test_snakemake_refuses_a_bad_file(project, path, content, words):
    file = project.folder / path
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        assert words in project.refused()
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (["limit="], "`limit` is empty: is it a shell variable that is not set?"),
        (["study1_csv="], "`study1_csv` is empty"),
        (["generation={top_p: 1, top_p: 0.5}"], "the key 'top_p' stands there again"),
        (["results=workflow/lib"], "workflow is the project's own"),
        (["replications=1000000"], "must be 1000 or less"),
    ],
)
def test_snakemake_refuses_a_bad_argument(project, entries, words):
    assert words in project.refused("--config", *entries)


def test_a_further_file_is_read_by_grace_too(project, tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("limit: 3\nbase_seed: 1\nlimit: 4\n")
    shown = project.refused("--configfile", str(path))
    assert "mine.yaml: line 3: the key 'limit' stands there again; it is in line 1" in shown
