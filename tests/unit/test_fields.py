"""Single values of the configuration: folders, names, addresses, server arguments, `--config`."""

from __future__ import annotations

import re
import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from snakemake import cli
from snakemake.exceptions import CliException
from snakemake.settings import types
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

from grace.errors import ConfigError
from grace.settings import fields, server_arguments
from grace.settings.config import Config, ModelEntry
from grace.settings.folders import check_places
from grace.settings.loading import load_config, load_models
from grace.settings.sources import check_entries, check_files
from snakemake_logger_plugin_grace import read_before_snakemake


@pytest.mark.parametrize(
    "value", ["results", "my results/2026-11", "/scratch/me/grace", "Ergebnisse/für (mich)",
    ".grace",
              "a..b", "x" * 200],
)  # fmt: skip
def test_folders(value):
    assert fields.folder(value) == value


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("results/", "results"), ("./out", "out"), ("./out//mine/./", "out/mine"),
        ("/data//out/", "/data/out"), ("//data/out", "/data/out"),
    ],
)  # fmt: skip
def test_a_folder_has_one_name_however_it_is_written(value, plain):
    assert fields.folder(value) == plain
    config = load_config({"results": value, "journal_dir": value})
    assert (config.results, config.journal_dir) == (plain, plain)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "must not be empty"), (" ", "must not be blank"), ("a\n", "U+000A"), ("a\0b",
        "U+0000"),
        ("a\u202eb", "U+202E"), (" a", "white space"), (".", "without '..'"), ("..", "'..'"),
        ("/", "a folder below"), ("//", "a folder below"), ("./", "a folder below"),
        ("./../a", "'..'"), ("a/../b", "'..'"), ("-rf", "begins with '-'"), ("a/-x",
        "begins with"),
        ("{model}", "must not hold { }"), ("<results>", "must not hold < >"), ("~/a",
        "must not hold ~"),
        ("$HOME", "must not hold $"), ("x" * 201, "more than 200 bytes"), ("ü" * 101, "200 bytes"),
        ("/".join("x" * 600), "at most 1000"),
    ],
)  # fmt: skip
def test_what_is_no_folder(value, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        fields.folder(value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000/v1", "https://llm.example.org/v1", "http://[::1]:8000/v1",
            "http://gpu_1.local", "https://x.org/a/b~c/%20/v1"],
)  # fmt: skip
def test_addresses(url):
    assert fields.base_url(url) == url
    assert fields.base_url(f"{url}/") == url


@pytest.mark.parametrize(
    "url", ["http://x.org:99999/v1", "http://x.org:0", "http://x.org:", "http://", "http:///v1",
            "http://x.org/a b", "http://x\n.org", "http://x.org\n", "http://x.org ",
            "http://1.2.3/v1",
            "http://[::1", "http://x.org/../v1", "http://x..org"],
)  # fmt: skip
def test_what_is_no_address(url):
    with pytest.raises(ValueError, match="must be an address such as"):
        fields.base_url(url)


@pytest.mark.parametrize(
    "argument", ["--api-k=x", "--api_key", "--a", "--hf-tok=x", "--port=1", "--po=1", "--trust",
                 "--trust_remote_code", "--max_model_len=3", "-q", "-qawq",
                 "--see=1",
                 "--conf=x.yaml",
                 # Weights or a config from elsewhere, whose contents no digest sees; foreign code.
                 "--hf-config-path=resources/other", "--lora-modules", "--lora_m", "--download-dir",
                 "--model-class-overrides", "--model_class_overrides.A=evil:B",
                 "--kv-transfer-config.kv_connector_module_path=evil",
                 "--kv-transfer-config={}", "--ec_transfer", "--log-conf=x",
                 "--io-processor-plugin=x", "--hf_config_path=x"],
)  # fmt: skip
def test_arguments_of_the_server_are_known_by_their_beginnings(argument):
    with pytest.raises(ValueError, match="must not hold -"):
        server_arguments.check(["--gpu-memory-utilization", "0.8", argument])


@pytest.mark.parametrize(
    "arguments", [[], ["--gpu-memory-utilization", "0.8"], ["--kv-cache-dtype=fp8"], ["-O3"],
                  ["--tokenizer-mode", "slow"], ["--model-impl=transformers"],
                  ["-tp=2", "-dp", "2"],
                  ["--speculative-config", '{"model": "x", "num_speculative_tokens": 3}'],
                  ["--config-format", "hf"], ["--no-enable-prefix-caching"]],
)  # fmt: skip
def test_other_arguments_of_the_server_are_the_users(arguments):
    assert server_arguments.check(arguments) == arguments


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["limit="], "--config limit: `limit` is empty: is it a shell variable that is not set?"
                     " Leave `limit` out, or write limit=null for none."),
        (["study1_csv= "], "--config study1_csv: `study1_csv` is empty: is it a shell variable that"
                           " is not set? Leave `study1_csv` out."),
        (["generation={top_p: 1, top_p: 0.5}"],
         "--config generation: line 1: the key 'top_p' stands there again; it is in line 1 already."
         " Remove one of them."),
        (["results=a\nb"], "--config results: `results` holds a new line."),
        (["base_seed={}"],
         "--config base_seed: `base_seed` is {}, which sets nothing. Give it a value, or leave it"
         " out."),
        (["generation={temperature: {}}"],
         "--config generation: `generation.temperature` is {}, which sets nothing. Give it a value,"
         " or leave it out."),
    ],
)  # fmt: skip
def test_arguments_that_a_shell_spoilt(entries, message):
    with pytest.raises(ConfigError) as caught:
        check_entries(entries)
    assert str(caught.value) == message


def test_a_further_file_that_sets_nothing_is_reported(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("generation: {}\nlimit: {}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: `limit` is {}, which sets nothing"):
        check_files([path])


def test_arguments_that_are_meant():
    check_entries(
        ["limit=3", "models=[a, b]", "generation={top_p: 1}", "generation={temperature: 0}"]
    )
    check_entries(["generation={}"])
    check_entries(["limit=3", "limit=4"])  # the last wins, as with any option
    check_entries(["results='my results'", "engine=null", "study1_csv=a=b.csv"])


def test_null_on_the_command_line_is_none():
    config = load_config({"limit": "null", "engine": "null", "serving": {"port": "null"}})
    assert (config.limit, config.engine, config.serving.port) == (None, None, None)


def test_config_files_are_plain_settings(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    check_files([path])  # not there, which is Snakemake's to say
    path.write_text("limit: 3\n")
    check_files([path])
    path.write_text("- limit\n")
    with pytest.raises(ConfigError, match="must hold keys with values"):
        check_files([path])
    path.write_text("__use_yte__: true\n")
    with pytest.raises(ConfigError, match="would run code"):
        check_files([path])


def refusal(tmp_path: Path, results: str = "results", journal: str = ".grace") -> str:
    with pytest.raises(ConfigError) as caught:
        check_places(results, journal, tmp_path)
    return str(caught.value)


def test_places_that_are_a_runs_own(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for results in (
        "results",
        "out/of mine",
        str(tmp_path / "elsewhere"),
        "/dev/shm/grace-results",
    ):
        check_places(results, ".grace", tmp_path)
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").symlink_to("disk")
    check_places("results", ".grace", tmp_path)


def test_places_that_are_not(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "workflow").mkdir()
    (tmp_path / "link").symlink_to("workflow")
    (tmp_path / "nowhere").symlink_to("nothing")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").touch()
    for results in ("config", "workflow/lib", ".git", ".snakemake/x", "link", "link/x"):
        assert "is the project's own or a tool's" in refusal(tmp_path, results)
    assert "holds the project" in refusal(tmp_path, str(tmp_path.parent))
    assert "holds the project" in refusal(tmp_path, journal=str(tmp_path))
    assert "is the system's" in refusal(tmp_path, "/etc/grace")
    assert f"`results` is file/x, but {tmp_path}/file is a file" in refusal(tmp_path, "file/x")
    assert "is a link to nothing" in refusal(tmp_path, "nowhere")
    assert "`results` is circle" in refusal(tmp_path, "circle")
    for results, journal in (("a", "a"), ("a", "a/b"), ("a/b", "a"), (".grace", ".grace")):
        assert "neither may lie in the other" in refusal(tmp_path, results, journal)


def refused(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replications": 1_000_000}, "key 'replications' is 1000000, but: must be 1000 or less"),
        ({"replications": [0, 1000]}, "must hold indices from 0 to 999"),
        ({"limit": 10**12}, "key 'limit' is 1000000000000, but: must be 1000000000 or less."),
        ({"limit": "9" * 5000}, "key 'limit': must be a whole number."),
        ({"variants": ["seed", "./seed"]}, "key 'variants.1' is './seed', but: must consist of"),
        ({"variants": "seed/"}, "key 'variants.0' is 'seed/', but: must consist of letters"),
        ({"variants": "x" * 101}, "key 'variants.0': must have at most 100 characters."),
        ({"study1_csv": None}, "key 'study1_csv' is empty, but: must be text"),
        ({"study1_csv": 5}, "key 'study1_csv' is 5, but: must be text"),
        ({"stimuli": {"study1": ""}}, "key 'stimuli.study1' is '', but: must not be empty."),
        ({"results": 2026}, "key 'results' is 2026, but: must be text, in quotation marks."),
        ({"a\x1b[31m\n": 1}, "unknown key 'a\\x1b[31m\\n'."),
        (
            {"requests": {"timeout_s": 1e300}},
            "key 'requests.timeout_s' is 1e+300, but: must be 100",
        ),
    ],
)
def test_values_that_are_refused(values, message):
    assert message in refused(**values)


def test_many_mistakes_are_counted():
    lines = refused(**{f"k{n}": 1 for n in range(500)}).split("\n")
    assert len(lines) == 21
    assert lines[-1] == "config: … and 480 more."


@pytest.mark.parametrize("key", ["logs", "analysis", "benchmarks", "manifests", "report.html"])
def test_a_model_is_not_called_as_a_folder_of_every_run(tmp_path, key):
    path = tmp_path / "models.yaml"
    path.write_text(f"{key}: {{name: x}}\n")
    with pytest.raises(ConfigError, match=f"the name '{key}' is that of a folder or file which"):
        load_models(path)


@pytest.mark.parametrize("field", ["name", "tokenizer"])
@pytest.mark.parametrize("value", ["", ".", "..", "../../../etc", "a/../b", "-x", "~/x", "a\nb"])
def test_a_models_weights_are_below_the_project_or_on_the_hub(field, value):
    with pytest.raises(ValueError, match=field):
        ModelEntry.model_validate({"name": "x", field: value})


def test_replications_never_share_a_seed():
    """The reason for their number: experiments of a replication start 1,000 seeds apart."""
    from grace.seeds import APART

    assert APART == fields.MAX_REPLICATIONS
    assert len(Config(replications=1000).replication_indices) == 1000


@pytest.mark.parametrize(
    "entry",
    ["limit =3", " limit=3", "=3", "limit", "", "=", "9limit=3", "a b=3", "lim\u0131t =3", "x\n=3"],
)
def test_what_is_no_key_with_a_value_is_refused(entry):
    with pytest.raises(ConfigError, match="is no key with a value") as caught:
        check_entries([entry])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("limit=# x", "`limit` holds no value: '# x' is a comment"),
        ("limit=''", "`limit` is empty"),
        ('study1_csv=" "', "`study1_csv` is empty"),
        ("models=[a, # b", None),
        ("study1_csv=a#b", None),
    ],
)
def test_entries_that_hold_nothing_are_refused(entry, problem):
    with pytest.raises(ConfigError, match=problem) if problem else nullcontext():
        check_entries([entry])


def test_snakemake_finds_the_plug_in_that_checks_before_it_reads(monkeypatch):
    """It is a package of a plug-in's name on the path; the command line then calls what it set.

    It leaves no module of Grace's behind: the workflow may be another copy's.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "grace"]:
        monkeypatch.delitem(sys.modules, name)
    assert LoggerPluginRegistry().is_installed("grace")
    command_line = SimpleNamespace(parse_config=lambda entries: {"read": entries})
    settings = SimpleNamespace(load_configfile=lambda path: {"read": path})
    assert {"parse_config", "args_to_api"} <= set(vars(cli)), "where Snakemake calls its readers"
    assert "load_configfile" in vars(types)
    read_before_snakemake(command_line, settings)
    assert command_line.parse_config(["limit=3"]) == {"read": ["limit=3"]}
    assert command_line.parse_config(None) == {"read": None}
    assert settings.load_configfile("none.yaml") == {"read": "none.yaml"}
    for entry in ("=3", "limit=[&a [x], *b]"):
        with pytest.raises(CliException, match="--config"):
            command_line.parse_config([entry])
    assert "grace.settings" not in sys.modules
    # The library of an older version comes first on the path, as in an archive that is reproduced.
    monkeypatch.setitem(sys.modules, "grace", ModuleType("grace"))
    assert command_line.parse_config(["=3"]) == {"read": ["=3"]}
