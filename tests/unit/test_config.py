"""The configuration: what it accepts, and how it refuses the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from grace.cluster.plan.placement import QUANTISED_BYTES
from grace.errors import ConfigError
from grace.settings.config import QUANTISATIONS, ModelEntry, PlacementEntry
from grace.settings.loading import load_config, load_models, select_models

ENTRIES = {
    "pico": ModelEntry(name="resources/models/pico", engine="transformers", gpus=0),
    "gemma-2b": ModelEntry(name="google/gemma-2b-it"),
}


def refused(**values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(values)
    return str(caught.value)


def test_defaults() -> None:
    config = load_config({})
    assert (config.models, config.variants, config.replication_indices) == (
        ["pico"],
        ["seed"],
        [0, 1],
    )
    assert config.stimuli == {}  # what each study declares


@pytest.mark.parametrize(
    ("replications", "indices"), [(1, [0]), (3, [0, 1, 2]), ("3", [0, 1, 2]), ([4, 2], [4, 2])]
)
def test_replications(replications: Any, indices: list[int]) -> None:
    assert load_config({"replications": replications}).replication_indices == indices


@pytest.mark.parametrize("value", [0, -1, [], [0, 0], [-1], [True], ["a"], 1.5, None, True, "many"])
def test_impossible_replications(value: Any) -> None:
    text = refused(replications=value)
    shown = {"None": "empty", "True": "true"}.get(repr(value), repr(value))
    assert text.startswith(f"config: key 'replications' is {shown}, but: ")
    assert "ind" in text  # tells of the list of indices
    assert "\n" not in text


def test_a_single_name_stands_for_a_list() -> None:
    config = load_config({"models": "gemma-2b", "studies": "study1", "experiments": "exp2"})
    assert (config.models, config.studies, config.experiments) == (
        ["gemma-2b"],
        ["study1"],
        ["exp2"],
    )


def test_short_forms_of_the_stimuli_win() -> None:
    config = load_config(
        {"study1_csv": "mine.csv", "stimuli": {"study1": "a.csv", "study2": "b.csv"}}
    )
    assert config.stimuli == {"study1": "mine.csv", "study2": "b.csv"}
    assert load_config({"my-study_csv": "mine.csv"}).stimuli == {"my-study": "mine.csv"}


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"modles": ["pico"]}, "config: unknown key 'modles'. Did you mean 'models'? Allowed"),
        ({"_csv": "x"}, "config: unknown key '_csv'."),
        (
            {"generation": {"temprature": 1}},
            "config: unknown key 'generation.temprature'. Did you mean 'temperature'? Allowed"
            " here: max_tokens, temperature, top_p.",
        ),
        ({"stimuli": {"study3": "{x}"}}, "config: key 'stimuli.study3' is '{x}', but: must"),
        ({"stimuli": "x"}, "config: key 'stimuli' is 'x', but"),
        ({"stimuli": "x", "study1_csv": "y"}, "config: key 'stimuli' is 'x', but: must map"),
        ({"limit": 0}, "config: key 'limit' is 0, but: "),
        ({"models": []}, "config: key 'models' is [], but: "),
        ({"models": ["a", "b", "a"]}, "config: key 'models' is ['a', 'b', 'a'], but: names a more"),
        ({"studies": ["{study}"]}, "config: key 'studies.0' is '{study}', but: must be"),
        ({"engine": "vlm"}, "config: key 'engine' is 'vlm', but: must be 'endpoint', 'tr"),
        ({"on_invalid": "ignore"}, "config: key 'on_invalid' is 'ignore', but: must be 'fail' or "),
        ({"generation": {"temperature": 3}}, "config: key 'generation.temperature' is 3, but: "),
        (
            {"thresholds": {"max_failure_rate": 2}},
            "config: key 'thresholds.max_failure_rate' is 2, but: must be 1 or less.",
        ),
        ({"limit": True}, "config: key 'limit' is true, but: must be a number."),
        ({"base_seed": 1.5}, "config: key 'base_seed' is 1.5, but: must be a whole number."),
        ({"shuffle": "maybe"}, "config: key 'shuffle' is 'maybe', but: must be true or false."),
        ({"results": ""}, "config: key 'results' is '', but: must not be empty."),
        ({"results": None}, "config: key 'results' is empty, but: must be text."),
        ({"generation": 5}, "config: key 'generation' is 5, but: must hold keys with values."),
        ({"serving": {"idle_s": float("inf")}}, "config: key 'serving.idle_s' is inf, but: must"),
    ],
)
def test_bad_values(values: dict[str, Any], start: str) -> None:
    assert refused(**values).startswith(start)


def test_short_forms_are_listed_as_allowed() -> None:
    assert "<study>_csv" in refused(modles=1)


def test_all_mistakes_are_reported_at_once() -> None:
    lines = refused(replications=0, limit=0, modles=1).split("\n")
    assert {line.split("'")[1] for line in lines} == {"replications", "limit", "modles"}


def test_unknown_model_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError) as caught:
        select_models(load_config({"models": "gema-2b"}), ENTRIES)
    assert str(caught.value) == (
        "config: unknown model 'gema-2b' in `models`. Did you mean 'gemma-2b'?"
        " config/models.yaml holds: gemma-2b, pico."
    )


def test_engine_overrides_every_models_own() -> None:
    both = {"models": ["pico", "gemma-2b"]}
    own = select_models(load_config(both), ENTRIES)
    assert [entry.engine for entry in own.values()] == ["transformers", "vllm"]
    same = select_models(load_config({**both, "engine": "vllm"}), ENTRIES)
    assert [entry.engine for entry in same.values()] == ["vllm", "vllm"]
    assert list(same) == ["pico", "gemma-2b"]


def test_endpoint_without_an_address() -> None:
    with pytest.raises(ConfigError, match=r"model 'pico'.*`endpoint` needs `base_url`"):
        select_models(load_config({"engine": "endpoint"}), ENTRIES)


def test_engine_drops_the_keys_that_only_a_models_own_may_have() -> None:
    remote = ModelEntry(
        name="org/model", engine="endpoint", base_url="https://x.org/v1", api_key_env="KEY",
        tokenizer="org/words",
    )  # fmt: skip
    config = load_config({"models": ["remote"], "engine": "vllm"})
    entry = select_models(config, {"remote": remote})["remote"]
    assert entry == ModelEntry(name="org/model", engine="vllm", tokenizer="org/words")


def test_models_file(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(
        "toy: {name: me/toy, gpus: 0}\n"
        "remote: {name: gpt, engine: endpoint, base_url: 'https://x.org/v1/'}\n"
    )
    models = load_models(path)
    assert (models["toy"].engine, models["toy"].gpus) == ("vllm", 0)
    assert models["remote"].base_url == "https://x.org/v1"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "must map model keys to entries"),
        ("- toy", "must map model keys to entries"),
        ("toy: [", "not readable as YAML: line 1, column 7: "),
        ("toy: {gpus: 1}", "key 'toy.name' is missing"),
        ("toy: {name: x, dtpe: float32}", "unknown key 'toy.dtpe'. Did you mean 'dtype'? Allowed"),
        (
            "toy: {name: x, engine: gpu}",
            "key 'toy.engine' is 'gpu', but: must be 'endpoint', 'transformers' or 'vllm'.",
        ),
        ("toy: {name: x, engine: endpoint}", "engine `endpoint` needs `base_url`"),
        ("toy: {name: x, base_url: x.org}", "must start with http:// or https://"),
        (
            "toy: {name: x, base_url: 'https://x.org/v1'}",
            "key 'toy': engine `vllm` does not use `base_url`, which is for `endpoint` alone. Take"
            " it out, or correct `engine`.",
        ),
        ("toy: {name: x, engine: transformers, api_key_env: KEY}", "does not use `api_key_env`"),
        ("to/y: {name: x}", "the name 'to/y' must consist of letters"),  # it names a folder
    ],
)
def test_bad_models_file(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_models(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        (
            "gpus: 4, tensor_parallel_size: 3",
            "key 'toy': `tensor_parallel_size` is 3, but must divide the number of GPUs, which is"
            " 4.",
        ),
        (
            "quantization: awk",
            "key 'toy': `quantization` is 'awk'. Did you mean 'awq'? Grace knows the sizes of awq,"
            " awq_marlin, bitsandbytes, fp8, gptq, gptq_marlin, mxfp4; for another method of"
            " vLLM's, give the size of its weights in `weights_gib`.",
        ),
        (
            "weights_gib: 9, placements: {l40: {quantization: quark}}",
            "key 'toy': `quantization` in `placements.l40` is 'quark'.",
        ),
        ("parameters_b: true", "key 'toy.parameters_b' is true, but: must be a number."),
        (
            "placements: {l40: {memory_mib: 16}}",
            "key 'toy.placements.l40.memory_mib' is 16, but: must be 1024 or more.",
        ),
        (
            "placements: {l40: two}",
            "key 'toy.placements.l40' is 'two', but: must hold keys with values.",
        ),
    ],
)
def test_bad_entries_are_reported_in_one_line_without_the_entry(
    tmp_path: Path, entry: str, error: str
) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(f"toy: {{name: me/toy, {entry}}}\n")
    with pytest.raises(ConfigError) as caught:
        load_models(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: {error}")
    assert "\n" not in text
    assert "me/toy" not in text


def test_what_an_entry_may_leave_empty(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(
        "a: {name: x, placements: {a100: , l40: {gpus: 2}}}\n"
        "b: {name: x, placements: }\n"
        "c: {name: x, quantization: compressed-tensors, weights_gib: 9, placements: {l40: }}\n"
    )
    models = load_models(path)
    assert models["a"].placements["a100"] == PlacementEntry()
    assert models["b"].placements == {}
    assert models["c"].quantization == "compressed-tensors"


def test_every_method_has_a_size() -> None:
    assert set(QUANTISATIONS) == set(QUANTISED_BYTES)


def test_a_line_of_broken_yaml_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("toy: {name: x, base_url: https://me:geheim@x.org: }")
    with pytest.raises(ConfigError, match="line 1, column") as caught:
        load_models(path)
    assert "geheim" not in str(caught.value)


def test_no_models_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\.yaml: no such file"):
        load_models(tmp_path / "models.yaml")


def test_surface_forms() -> None:
    assert load_config({}).scoring.surface_forms == ["{}"]
    assert load_config({"scoring": {"surface_forms": " {}"}}).scoring.surface_forms == [" {}"]


@pytest.mark.parametrize(
    ("forms", "hint"),
    [
        (["{}", " "], "must hold {}, the option, exactly once, as in ' {}'; ' ' does not"),
        (["{}{}"], "exactly once"),
        (["{}", " {}", "{}"], "names a form more than once"),
        ([], "at least 1"),
    ],
)
def test_impossible_surface_forms(forms: list[str], hint: str) -> None:
    text = refused(scoring={"surface_forms": forms})
    assert text.startswith(f"config: key 'scoring.surface_forms' is {forms!r}, but: ")
    assert hint in text
