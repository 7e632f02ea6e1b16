"""Bad input by seed: what people and their programs get wrong in settings, stimuli and prompts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from bad_values import ARGUMENTS, FOLDERS, NAMES, NO_NUMBER, NUMBERS, SETTINGS, SOURCES, URLS

ROOT = Path(__file__).parents[2]
CONFIG, MODELS, CLUSTERS = "config/config.yaml", "config/models.yaml", "config/clusters.yaml"


@dataclass(frozen=True)
class BadInput:
    """A project with something wrong in it."""

    what: str
    #: Any of these must be in the message.
    names: list[str]
    #: Files by path below the project, as Latin-1 text of their bytes.
    files: dict[str, str] = field(default_factory=dict)
    #: Of `--config`.
    entries: list[str] = field(default_factory=list)


def with_file(what: str, path: str, content: str | bytes, *names: str) -> BadInput:
    data = content.encode() if isinstance(content, str) else content
    return BadInput(what, [*names] or [Path(path).name], {path: data.decode("latin-1")})


def shipped(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def dumped(value: Any) -> str:
    return yaml.safe_dump(value, width=10**9)


def nested(key: str, value: Any) -> dict[str, Any]:
    """`a.b` and 3 as {a: {b: 3}}."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def any_file(rng: random.Random) -> str:
    return rng.choice([CONFIG, MODELS, CLUSTERS])


def places(text: str) -> list[int]:
    """The numbers of lines that hold a key."""
    return [n for n, line in enumerate(text.splitlines()) if line.strip() and ":" in line
            and not line.lstrip().startswith(("#", "-"))]  # fmt: skip


def inserted(text: str, at: int, make: Callable[[str, str], str]) -> str:
    """With a line before the line `at`, made of that one's indentation and key."""
    lines = text.splitlines()
    key = lines[at].split(":")[0]
    indentation = key[: len(key) - len(key.lstrip())]
    return "\n".join([*lines[:at], make(indentation, key.strip()), *lines[at:], ""])


# --- what YAML allows -----------------------------------------------------------------------------


def duplicate_key(rng: random.Random) -> BadInput:
    path = any_file(rng)
    text = shipped(path)
    at = rng.choice(places(text))
    value = rng.choice(["1", "{}", "[a]", "null", "'text'"])
    return with_file("a key twice", path, inserted(text, at, lambda i, k: f"{i}{k}: {value}"))


def line_of_its_own(rng: random.Random) -> BadInput:
    path = any_file(rng)
    text = shipped(path)
    at = rng.choice(places(text))
    line = rng.choice(
        [
            "<<: {a: 1}", "no: 1", "1: a", "1.5: a", "null: a", "true: a", "? [a]\n{i}: b",
            "? {a: 1}\n{i}: b",
            "2026-01-01: a", "zz: !!python/object/apply:os.system [true]", "zz: !!binary aGk=",
            "zz: !env HOME", "zz: 1:30", "zz: 012", "zz: 0x1f", "zz: 1_000", "zz: 190:20:30.15",
            "zz: 0b11", "zz: 2026-01-01", "zz: 2001-12-14t21:59:43.10-05:00", "zz: =",
            "zz: *nowhere",
            "zz: &z [*z]", 'zz: "\\0"', 'zz: "\\ud83d"', 'zz: "\\x1b[31m"', "zz: [", "zz: }",
            "zz: 'a",
            "zz: a: b", "\tzz: 1", "zz: `a`", "zz: @a", "zz: %a", "--- ", "{a: 1}", "- a", "zz",
            "&a zz: 1\n{i}&a yy: 2",
        ]
    )  # fmt: skip
    return with_file(
        f"the line {line!r}", path, inserted(text, at, lambda i, _: i + line.replace("{i}", i))
    )


def alias_bomb(rng: random.Random) -> BadInput:
    path, width, height = any_file(rng), rng.randint(2, 9), rng.randint(18, 60)
    if rng.random() < 0.5:
        rows = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
        rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, height)]
    else:
        keys = [f"k{n}" for n in range(width)]
        rows = [f"a0: &a0 {{{', '.join(f'{key}: 1' for key in keys)}}}"]
        rows += [
            f"a{n}: &a{n} {{{', '.join(f'{key}: *a{n - 1}' for key in keys)}}}"
            for n in range(1, height)
        ]
    return with_file("an alias bomb", path, "\n".join(rows) + "\n")


def too_much(rng: random.Random) -> BadInput:
    path = any_file(rng)
    deep = rng.randint(21, 20_000)
    text = rng.choice(
        [
            f"a: {'[' * deep}{']' * deep}", "a: " + "{b: " * deep + "1" + "}" * deep,
            "\n".join(f"k{n}: {n}" for n in range(60_000)), "a: " + "x" * rng.randint(20_001,
            250_000),
            "a: " + "9" * rng.randint(41, 9_000), "a: -" + "1" * 5_000, "a: 0." + "1" * 5_000,
            "#" * (256 * 1024 + rng.randint(1, 9)), "- " * deep, "k" * 30_000 + ": 1",
            "a: &" + "b" * 3_000 + " 1\na: 2",
        ]
    )  # fmt: skip
    return with_file("too much", path, text)


def other_bytes(rng: random.Random) -> BadInput:
    path = any_file(rng)
    text = "# Übersicht – naïve\n" + shipped(path)
    content = rng.choice(
        [
            text.replace("–", "-").encode("latin-1"), text.encode("cp1252"), text.encode("utf-16"),
            text.encode("utf-16-le"), text.encode("utf-32"), text.replace("–", "-").encode("cp850"),
            rng.randbytes(rng.randint(1, 400)) + b"\xff", b"\x00" * 9, text.encode() + b"\x00",
            text.encode() + b"\xed\xa0\x80", b"\xff\xfe", text.encode() + b"\x07",
            b"\x1f\x8b\x08\x00",
            text.encode()[: text.encode().index("–".encode()) + 1],
        ]
    )  # fmt: skip
    return with_file("other bytes", path, content)


def no_mapping(rng: random.Random) -> BadInput:
    path = any_file(rng)
    return with_file(
        "no mapping", path, rng.choice(["", "# nothing\n", "- a\n- b\n", "text\n", "3\n", "null\n",
        "[]\n"])
    )  # fmt: skip


# --- values of config.yaml ------------------------------------------------------------------------


def number(rng: random.Random) -> BadInput:
    key, value = rng.choice(NUMBERS), rng.choice(NO_NUMBER)
    return with_file(
        f"{key} is {str(value)[:20]!r}", CONFIG, dumped(nested(key, value)), f"key '{key}"
    )


def replications(rng: random.Random) -> BadInput:
    value = rng.choice(
        [
            0, -3, 1001, 1_000_000, 10**9, [], [0, 0], [1, 2, 1], [-1], [1000], [5, 10**12], [True],
            [0, None], [0.5], 2.5, "0", "-1", "1_0", "٣٣٣٣٣", None, {"a": 1}, [[0]],
            list(range(1001)),
            ["0", 0], "1:30",
        ]
    )  # fmt: skip
    return with_file(
        f"replications {str(value)[:30]}", CONFIG, dumped({"replications": value}), "replications"
    )


def folder(rng: random.Random) -> BadInput:
    key, value = rng.choice(["results", "journal_dir"]), rng.choice(FOLDERS)
    if rng.random() < 0.5 and value.strip() == value != "":  # YAML strips what is around
        return BadInput(f"--config {key}={value[:20]!r}", [key], entries=[f"{key}={value}"])
    return with_file(f"{key} is {value[:20]!r}", CONFIG, dumped({key: value}), key)


def folder_with_a_bad_sign(rng: random.Random) -> BadInput:
    key, name = rng.choice(["results", "journal_dir"]), list("out/of mine-2")
    sign = rng.choice(
        [chr(rng.randrange(1, 9)), *"{}<>*?[]|;&$`\"'\\#!%^~\n\x7f\x85\x9b\u200d\u2066"]
    )
    name.insert(rng.randrange(1, len(name)), sign)
    return with_file(
        f"{key} with {sign!r}", CONFIG, dumped({key: "".join(name)}), key, "config.yaml"
    )


def both_folders(rng: random.Random) -> BadInput:
    results, journal = rng.choice(
        [("a", "a"), ("a/b", "a"), ("a", "a/.grace"), (".grace", ".grace")]
    )
    return with_file(
        "folders in each other", CONFIG, dumped({"results": results, "journal_dir": journal}),
        "journal_dir"
    )  # fmt: skip


def name(rng: random.Random) -> BadInput:
    key, value = rng.choice(["variants", "models", "gpus", "cluster"]), rng.choice(NAMES)
    listed = value if key == "cluster" or rng.random() < 0.5 else [value]
    return with_file(f"{key} is {value[:20]!r}", CONFIG, dumped({key: listed}), key, "config.yaml")


def choice(rng: random.Random) -> BadInput:
    key, value = rng.choice(SETTINGS)
    return with_file(
        f"{key[:20]} is {str(value)[:20]!r}", CONFIG, dumped(nested(key,
        value) if "." in key else {key: value}),
        key.split(".")[0].removesuffix("_csv").replace("study1", "stimuli"), "config.yaml", "csv",
        "unknown key", str(value)[:20] if isinstance(value, str) and value.strip() else key,
    )  # fmt: skip


def unknown_key(rng: random.Random) -> BadInput:
    section = rng.choice(["", "generation.", "requests.", "serving.", "thresholds.", "scoring."])
    key = section + "".join(rng.choices("abcdefgxyz_", k=rng.randint(1, 12)))
    return with_file(f"unknown {key}", CONFIG, dumped(nested(key, 1)), f"unknown key '{key}'")


def argument(rng: random.Random) -> BadInput:
    value: Any = [rng.choice(ARGUMENTS)]
    if rng.random() < 0.3 and value[0].startswith("-") and len(value[0]) > 2:
        value = ["--gpu-memory-utilization", "0.8", *value]
    if rng.random() < 0.1:
        value = rng.choice(["--x", [0.8], [None], {"a": 1}, [["--x"]], [True]])
    return with_file(
        f"extra_args {str(value)[:40]}", CONFIG, dumped({"serving": {"extra_args": value}}),
        "serving.extra_args", "config.yaml",
    )  # fmt: skip


# --- models.yaml and clusters.yaml ----------------------------------------------------------------


def model_name(rng: random.Random) -> BadInput:
    key = rng.choice([*NAMES, "logs", "analysis", "benchmarks", "manifests", "report.html"])
    return with_file(f"a model {key[:20]!r}", MODELS, dumped({key: {"name": "x"}}), "models.yaml")


def entry(rng: random.Random) -> BadInput:
    numbers = ("gpus", "max_model_len", "runtime_min", "parameters_b", "weights_gib",
    "tensor_parallel_size",
               "cache_kib_per_token", "replication_parallelism")  # fmt: skip
    key, value = rng.choice(
        [
            ("name", rng.choice(SOURCES)), ("tokenizer", rng.choice([v for v in SOURCES if v])),
            ("base_url", rng.choice(URLS)), ("base_url", rng.choice(URLS)), ("base_url",
            rng.choice(URLS)),
            (rng.choice(numbers), rng.choice(NO_NUMBER)), (rng.choice(numbers),
            rng.choice(NO_NUMBER)),
            ("revision", rng.choice(["", " ", "a b", "../a", "-a", "a\n", 5, 1.0, "x" * 300,
            "a..b"])),
            ("dtype", rng.choice(["half", "int8", "", None, 16])), ("engine", rng.choice(["",
            "gpu", None, 1])),
            ("quantization", rng.choice(["", "awk", "a b", " ", 8, True])),
            ("reasoning_end", rng.choice(["", " ", "\n", "a\0", 5, ["</think>"]])),
            ("api_key_env", rng.choice(["", "key", "A B", "1A", "sk-aaaaaaaaaaaaaaaaaaaa", "A\n",
            5])),
            ("placements", rng.choice([5, "a100", ["a100"], {"": {}}, {"../x": {}}, {"a100": 2},
                                       {"a100": {"gpus": 0}}, {"a100": {"name": "../x"}},
                                       {"a100": {"cpu": 10**9}}])),
            ("nmae", "x"), ("api_key", "sk-aaaaaaaaaaaaaaaaaaaa"),
        ]
    )  # fmt: skip
    values = {"name": "x", "engine": "endpoint", "base_url": "http://x.org/v1"} | {key: value}
    if key in ("quantization", "placements"):
        values = {"name": "x", "engine": "vllm", key: value}
    return with_file(f"a model's {key} {str(value)[:20]!r}", MODELS, dumped({"mine": values}),
    "models.yaml")  # fmt: skip


def cluster(rng: random.Random) -> BadInput:
    gpu = {"memory_gib": 24, "compute_capability": 8.0}
    key, value = rng.choice(
        [
            ("namespace", rng.choice(["", "A", "a b", "a\n", "x" * 64, 5])),
            ("context", rng.choice(["", " ", "a\nb", 5])), ("images", rng.choice([{}, 5,
            {"default": ""}, {"default": "a b"}, {"report": "a"}])),
            ("gpus", rng.choice([5, {"": gpu}, {"a/b": gpu}, {"a": {}}, {"a": {**gpu,
            "memory_gib": rng.choice(NO_NUMBER)}},
                                 {"a": {**gpu, "resource": "a b"}}, {"a": {**gpu,
                                 "labels": {"a b": ["c"]}}},
                                 {"a": {**gpu, "labels": {"a": ["c\nd"]}}}, {"a": {**gpu,
                                 "priority_class": "A b"}}])),
            ("volumes", rng.choice([{"w": {"claim": "", "mount": "/w"}}, {"w": {"claim": "c",
            "mount": "w"}},
                                    {"w": {"claim": "c", "mount": "/"}}, {"w": {"claim": "c",
                                    "mount": "/a/../b"}},
                                    {"w": {"claim": "C D", "mount": "/w"}}, {"W": {"claim": "c",
                                    "mount": "/w"}}, [1]])),
            ("hf_token", rng.choice(["a", {"name": "a"}, {"name": "", "key": "k"}, {"name": "a b",
            "key": "k"}, 5])),
            ("run_as", rng.choice([0, {"user": 0}, {"user": -1}, {"user": 2**40},
            {"user": "root"}])),
            (rng.choice(["patience_s", "tries", "ttl_s", "poll_s", "peak_gpus", "more_memory",
            "api_timeout_s"]),
             rng.choice(NO_NUMBER)),
            ("service_account", rng.choice(["", "A B", 5])), ("policy", rng.choice([5,
            {"max_hours": 1}, {"max_gpu_hours": -1}])),
            ("namespce", "a"), ("models_in_sequence", "perhaps"),
        ]
    )  # fmt: skip
    name = rng.choice(["mine", "mine", "mine", "", "../a", "a b", "x" * 200])
    return with_file(
        f"a cluster's {key} {str(value)[:20]!r}", CLUSTERS, dumped({name: {key: value}}),
        "clusters.yaml"
    )  # fmt: skip


# --- the command line -----------------------------------------------------------------------------


def empty_argument(rng: random.Random) -> BadInput:
    key = rng.choice(
        ["limit", "study1_csv", "study2_csv", "models", "results", "replications", "engine",
        "gpus", "variants",
         "studies", "experiments", "base_seed", "shuffle", "cluster", "journal_dir", "on_invalid",
         "generation",
         "stimuli", "serving"]
    )  # fmt: skip
    return BadInput(f"{key} empty", [f"`{key}` is empty"],
    entries=[f"{key}={rng.choice(['', ' ', '   '])}"])  # fmt: skip


def arguments(rng: random.Random) -> BadInput:
    entries, names = rng.choice(
        [
            (["generation={temperature: 0, temperature: 1}"], ["temperature"]),
            (["models=[pico, pico]"], ["models"]), (["models=&a [*a]"], ["models"]),
            (["models=[" * 30 + "]" * 30], ["models"]), (["models=pico,pico"], ["models"]),
            (["limit=" + "9" * 5000], ["limit"]), (["limit=nan"], ["limit"]), (["limit=-1"],
            ["limit"]),
            (["limit=1.5"], ["limit"]), (["limit=True"], ["limit"]), (["limit=ten"], ["limit"]),
            (["replications=1e9"], ["replications"]), (["replications=inf"], ["replications"]),
            (["replications=[]"], ["replications"]), (["replications=null"], ["replications"]),
            (["models=[]"], ["models"]), (["models=null"], ["models", "null"]),
            (["stimuli={study1: }"], ["stimuli"]), (["stimuli={study1: '', study2: ''}"],
            ["stimuli"]),
            (["study1_csv=null"], ["null"]), (["generation={temperature: }"], ["temperature"]),
            (["serving={port: 0}"], ["port"]),
            (["serving={port: }"], ["port"]), (["serving={environment: }"], ["environment"]),
            (["serving={extra_args: [--api-k=x]}"], ["extra_args"]), (["modles=pico"], ["modles"]),
            (["shuffle=maybe"], ["shuffle"]), (["engine=None"], ["engine"]),
            (["gpus=[a100, a100]"], ["gpus"]),
            (["models=" + "x" * 200_000], ["models"]), (["results=2026"], ["results"]),
            (["results=1e5"], ["results"]),
            (["variants=[seed, ./seed]"], ["variants"]), (["variants=seed/"], ["variants"]),
            (["base_seed=-1"], ["base_seed"]), (["limit={a: 1}"], ["limit"]), (["limit=[3]"],
            ["limit"]),
            (["models={pico: }"], ["models"]), (["stimuli=a.csv"], ["stimuli"]),
        ]
    )  # fmt: skip
    return BadInput(f"--config {' '.join(entries)[:40]}", names, entries=entries)


# --- stimuli and prompts --------------------------------------------------------------------------


def stimuli(rng: random.Random) -> BadInput:
    study = rng.choice(["study1", "study2"])
    path = f"resources/stimuli/{study}.csv"
    lines = shipped(path).splitlines()[:4]
    cells = lines[1].split(",")
    text: str | bytes = rng.choice(
        [
            "", lines[0], "\n\n", lines[0] + "\n" + lines[1] + "\n" + lines[1],
            "\n".join(lines[1:]),
            "\n".join(lines).replace(",", ";"), lines[0] + '\n"' + lines[1],
            lines[0] + "\n" + cells[0],
            "\n".join(lines).encode("utf-16"), "\n".join(lines).encode() + b"\n\xe9,\xff",
            lines[0] + "," + lines[0].split(",")[0] + "\n" + lines[1] + ",a",
            lines[0] + "\n" + lines[1].replace(cells[1], "a\0b", 1),
            lines[0] + "\n" + "," * (len(cells) - 1),
            lines[0] + "\n" + "x" * 200_000, b"PK\x03\x04" + rng.randbytes(60) + b"\xff",
        ]
    )  # fmt: skip
    return with_file(f"{study} {str(text)[:20]!r}", path, text)


def template(rng: random.Random) -> BadInput:
    name = rng.choice(
        ["study1_exp1.j2", "study1_exp2_state.j2", "study2_exp1.j2", "study2_exp2.j2"]
    )
    text: str | bytes = rng.choice(
        [
            "", " \n ", "{{", "{% if %}", "{{ nobody }}", "{{ 1 / 0 }}",
            "{% include 'nowhere.j2' %}",
            "{% include '" + name + "' %}", "{{ ''.__class__.__mro__ }}",
            "{{ cycler.__init__.__globals__ }}",
            "{% for x in range(10**9) %}a{% endfor %}", "{{ 'a' * 10**10 }}",
            "naïve".encode("latin-1"),
            "{% extends '" + name + "' %}", "{{ story_setup.nothing.nothing }}",
            "{{ 9 ** (9 ** 9) }}",
            "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "a\0b", "{{ nobody() }}",
            "{% set x = %}",
        ]
    )  # fmt: skip
    return with_file(
        f"{name} {str(text)[:30]!r}", f"config/prompts/seed/{name}", text, ".j2", "prompt"
    )


FAMILIES: tuple[Callable[[random.Random], BadInput], ...] = (
    duplicate_key, line_of_its_own, alias_bomb, too_much, other_bytes, no_mapping, number,
    replications,
    folder, folder, folder_with_a_bad_sign, both_folders, name, choice, choice, unknown_key,
    argument,
    argument, model_name, entry, entry, cluster, empty_argument, arguments, stimuli, template,
)  # fmt: skip


def bad_input(seed: int) -> BadInput:
    """The input of a seed."""
    return FAMILIES[seed % len(FAMILIES)](random.Random(seed))
