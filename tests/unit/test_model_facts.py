"""What config/models.yaml says of its models, and what of it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from grace.cluster.plan.settings import load_clusters
from grace.contents import Contents
from grace.errors import ConfigError
from grace.models.__main__ import placements, table
from grace.models.identity import ModelIdentity
from grace.settings.loading import load_models

ROOT = Path(__file__).parents[2]
ENTRIES = load_models(ROOT / "config/models.yaml")


def entries(folder: Path, **values: object):
    path = folder / "models.yaml"
    path.write_text(yaml.safe_dump({"m": {"name": "org/m", **values}}))
    return load_models(path)


@pytest.mark.parametrize("key", ENTRIES)
def test_of_every_model_the_facts_and_their_source_are_there(key):
    about = ENTRIES[key].about
    assert about is not None
    assert about.source
    assert about.licence
    assert about.gated is not None
    assert about.context is not None
    assert about.architecture is not None
    assert about.architecture.endswith("ForCausalLM")
    assert (about.kind == "base") == (ENTRIES[key].prompting == "completion")
    # The publishers of these released no base model, or the model was never tuned from one.
    alone = about.kind == "base" or key in ("pico", "gpt-oss-20b", "gpt-oss-120b")
    assert (about.base is None) == alone


def test_no_commit_is_claimed_that_was_not_seen():
    for key, entry in ENTRIES.items():
        assert entry.about is not None
        if "not compared" in entry.about.source:
            assert entry.revision is None, key


def test_pairs_of_base_and_tuned_models_can_be_run():
    keys = {entry.name: key for key, entry in ENTRIES.items()}
    pairs = {
        key: keys[entry.about.base]
        for key, entry in ENTRIES.items()
        if entry.about is not None and entry.about.base in keys
    }
    assert pairs == {
        "gemma-2b": "gemma-2b-base", "llama-8b": "llama-8b-base", "qwen-32b": "qwen-32b-base",
    }  # fmt: skip
    for tuned, base in pairs.items():
        one, other = ENTRIES[tuned], ENTRIES[base]
        assert one.parameters_b == other.parameters_b
        assert one.cache_kib_per_token == other.cache_kib_per_token
        assert {tag: placed.gpus for tag, placed in one.placements.items()} == {
            tag: placed.gpus for tag, placed in other.placements.items()
        }


def test_facts_change_no_answer_and_make_nothing_stale():
    for entry in (ENTRIES["gemma-2b"], ENTRIES["qwen-32b-base"]):
        without = entry.model_copy(update={"about": None})
        one, other = (ModelIdentity(e, [], ROOT, Contents()) for e in (entry, without))
        assert one.output_config() == other.output_config()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"about": {"kind": "base"}}, "key 'm.about.source' is missing"),
        ({"about": {"source": "s", "license": "x"}}, "Did you mean 'licence'?"),
        (
            {"about": {"source": "s", "kind": "base"}},
            "was not trained to answer in a chat, even where it brings a chat template. Add"
            " `prompting: completion`",
        ),
        (
            {"about": {"source": "s", "kind": "base", "base": "o/b"}, "prompting": "completion"},
            "has `base`, which is for tuned models, but says `kind: base`",
        ),
        (
            {"about": {"source": "s", "context": 2048}},
            "`max_model_len` is 4,096, but `about` says that the model holds 2,048 tokens",
        ),
        (
            {
                "about": {"source": "s", "context": 8192},
                "placements": {"a100": {"max_model_len": 9000}},
            },
            "`max_model_len` is 9,000, but `about` says that the model holds 8,192 tokens",
        ),
        ({"about": {"source": "s", "gated": "maybe"}}, "must be true or false"),
        ({"about": {"source": "s", "sliding_window": 0}}, "must be 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_when_the_file_is_read(tmp_path, values, words):
    with pytest.raises(ConfigError) as caught:
        entries(tmp_path, **values)
    assert words in str(caught.value)


def test_what_is_not_known_is_left_out(tmp_path):
    (entry,) = entries(tmp_path, about={"source": "a colleague"}).values()
    assert entry.about is not None
    assert entry.about.model_dump(exclude_none=True) == {"source": "a colleague"}
    # Other weights than the entry's are another model, of which nothing was said.
    entries(
        tmp_path,
        about={"source": "s", "context": 8192},
        placements={"a100": {"name": "org/longer", "max_model_len": 9000}},
    )


def test_the_list_names_pairs_by_their_keys_and_says_what_is_not_known(tmp_path):
    lines = {line.split()[0]: line for line in table(ENTRIES)}
    assert lines["gemma-2b"].split()[2:] == [
        "instruct", "gemma-2b-base", "gemma", "yes", "8,192", "4096", "not", "pinned",
    ]  # fmt: skip
    assert "meta-llama/Llama-3.1-70B" in lines["llama-70b"]
    unknown = list(table(entries(tmp_path)))[1]
    assert unknown.split() == ["m", "org/m", *"??????", "not", "pinned"]


def test_every_model_is_placed_on_every_tag_or_refused_with_the_arithmetic():
    """The sums are done once more, from what the two files say."""
    clusters = load_clusters(ROOT / "config/clusters.yaml").values()
    gpus = {tag: gpu for cluster in clusters for tag, gpu in cluster.gpus.items()}
    lines = dict(line.split(": ", 1) for line in placements(ENTRIES, clusters))
    on_cores = {"pico", "pico-base"}
    pairs = {f"{key} on {tag}" for key in ENTRIES if key not in on_cores for tag in gpus}
    assert lines.keys() == pairs | on_cores
    for pair in pairs:
        key, tag = pair.split(" on ")
        entry, gpu = ENTRIES[key], gpus[tag]
        placed = entry.placements.get(tag)
        dtype = placed.dtype if placed and placed.dtype else entry.dtype
        number = placed.gpus if placed and placed.gpus else entry.gpus
        if dtype == "bfloat16" and gpu.compute_capability < 8:
            assert lines[pair].startswith("does not run ("), pair
            assert f"bfloat16 needs compute capability 8.0, {tag} has" in lines[pair]
            continue
        size = {"float32": 4, "bfloat16": 2, "float16": 2}[dtype]
        assert entry.cache_kib_per_token is not None
        weights = entry.weights_gib or (entry.parameters_b or 0) * 1e9 * size / 2**30
        cache = entry.cache_kib_per_token * size / 2 * entry.max_model_len / 2**20
        needed, room = weights + cache + 2 * number, 0.9 * gpu.memory_gib * number
        word = "and" if needed <= room else "but"
        sums = f"= {needed:.1f} GiB, {word} {number} x {gpu.memory_gib:g} GiB x 0.9 = {room:.1f}"
        assert sums in lines[pair], (pair, sums)
        assert lines[pair].startswith("does not run (") == (needed > room)


def test_a_model_of_unknown_size_is_said_to_be_that(tmp_path):
    clusters = load_clusters(ROOT / "config/clusters.yaml")
    found = list(placements(entries(tmp_path), [clusters["nrp"]]))
    assert found[0] == "m on a100: 1 GPU, bfloat16: size not known"
    giant = list(placements(entries(tmp_path, parameters_b=1000), [clusters["nrp"]]))
    assert all("does not run (1 GPU, " in line for line in giant)
