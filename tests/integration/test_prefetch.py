"""`snakemake prefetch` against a stand-in of the hub, and the hub itself if it answers."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from fake_hub import COMMIT, FakeHub
from workflow_project import Project

from grace.models.weights import Wanted, announced, published_gib, wanted
from grace.settings.config import ModelEntry

ROOT = Path(__file__).parents[2]
TINY = "hf-internal-testing/tiny-random-gpt2"
HEADER = b'{"w":{"dtype":"U8","shape":[7000],"data_offsets":[0,7000]}}'
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": struct.pack("<Q", len(HEADER)) + HEADER + b"weights" * 1000,
    "pytorch_model.bin": b"the same again" * 1000,
    "original/consolidated.00.pth": b"and again" * 1000,
    "README.md": b"words",
}
ADAPTER = {
    "adapter_config.json": b"{}",
    "adapter_model.safetensors": b"matrices",
    "training_args.bin": b"a pickle",
    "tokenizer.json": b"{}",
}


@pytest.fixture
def hub():
    started = FakeHub(
        {
            "google/gemma-2-2b-it": FILES,
            "meta-llama/Llama-3.2-3B-Instruct": FILES,
            "org/kind": ADAPTER,
            "old/pickled": {"config.json": b"{}", "pytorch_model.bin": b"weights"},
        },
        gated=("meta-llama/Llama-3.2-3B-Instruct",),
    )
    yield started
    started.close()


#: What the rule's script does, without Snakemake around it.
FETCH = """
import logging, sys
from pathlib import Path

sys.path[:0] = ["scripts", "workflow/lib"]
from prefetch import prefetch

from grace.errors import GraceError
from grace.settings.yaml_reader import read_yaml

logging.basicConfig(level=logging.INFO)
config = read_yaml(Path("config/config.yaml"))
try:
    prefetch(Path.cwd(), {**config, "models": sys.argv[1].split(",")})
except GraceError as error:
    sys.exit(str(error))
"""
SNAKEMAKE = ("-m", "snakemake", "prefetch", "--config")


def prefetch(project: Project, hub: FakeHub, home: Path, models: str):
    return run(project, hub, home, *SNAKEMAKE, f"models=[{models}]")


def fetch(project: Project, hub: FakeHub, home: Path, models: str, **environment: str):
    return run(project, hub, home, "-c", FETCH, models, **environment)


def run(project: Project, hub: FakeHub, home: Path, *arguments: str, **environment: str):
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        **environment,
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=project.folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_weights_arrive_once_in_one_form(tmp_path, hub):
    project = Project.copied_to(tmp_path / "project")
    project.edit("config/models.yaml", "google/gemma-2-9b-it", "old/pickled")
    project.edit("config/models.yaml", "gemma-2b:", "gemma-2b:\n  adapter: org/kind")
    plan = project.run("prefetch", "-n", "--config", "models=[pico,gemma-2b,gemma-9b]")
    gated = "; gated, accept its licence (gemma) first"
    listed = f"Fetch to HF_HOME: google/gemma-2-2b-it (about 5 GiB{gated}), org/kind (an adapter"
    assert f"{listed}, size unknown), old/pickled (about 17" in plan
    refused = prefetch(project, hub, tmp_path / "home", "gemma-9b")
    assert refused.returncode != 0
    assert "old/pickled: its weights are pickled (pytorch_model.bin), which can" in refused.stderr
    assert "Traceback" not in refused.stderr
    done = prefetch(project, hub, tmp_path / "home", "pico,gemma-2b")
    assert done.returncode == 0, done.stderr
    assert "google/gemma-2-2b-it (about 5 GiB" in done.stdout + done.stderr
    # What was fetched is compared with the entry, and can be pinned.
    assert "`python -m grace.models pin gemma-2b` writes that of these files" in done.stderr
    assert "`about.sliding_window` is 4096 in config/models.yaml, and none by" in done.stderr
    snapshot = tmp_path / "home/hub/models--google--gemma-2-2b-it/snapshots" / COMMIT
    there = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*")}
    assert there == {"config.json", "tokenizer.json", "model.safetensors"}
    of_adapter = tmp_path / "home/hub/models--org--kind/snapshots" / COMMIT
    assert {path.name for path in of_adapter.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    assert (snapshot / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not [name for name in hub.served if name.endswith((".bin", ".pth"))]
    sent = list(hub.served)
    again = fetch(project, hub, tmp_path / "home", "pico,gemma-2b")
    assert again.returncode == 0, again.stderr
    assert hub.served == sent


def test_what_the_hub_refuses_is_said_with_what_to_do(tmp_path, hub):
    project = Project.copied_to(tmp_path / "project")
    home = tmp_path / "home"
    # All that are refused are named together; what is free is fetched all the same.
    refused = prefetch(project, hub, home, "llama-3b,gemma-27b,gemma-2b")
    assert refused.returncode != 0
    assert "meta-llama/Llama-3.2-3B-Instruct is gated" in refused.stderr
    assert "accepted its licence (llama3.2). No HF_TOKEN is set" in refused.stderr
    assert "accept the licence at https://huggingface.co/meta-llama/Llama-3.2-3B" in refused.stderr
    assert "google/gemma-2-27b-it is not on the hub, or it is private" in refused.stderr
    assert "gemma-2b: google/gemma-2-2b-it in " in refused.stderr
    assert "Traceback" not in refused.stderr
    wrong = fetch(project, hub, home, "llama-3b", HF_TOKEN="hf_wrong")
    assert "The account of your token has not. Log in there with that account" in wrong.stderr
    allowed = fetch(project, hub, home, "llama-3b", HF_TOKEN=hub.token)
    assert allowed.returncode == 0, allowed.stderr
    project.edit("config/models.yaml", "gemma-2b:", "gemma-2b:\n  revision: v0")
    revision = fetch(project, hub, home, "gemma-2b")
    assert "at revision v0: the hub has no such revision" in revision.stderr
    hub.close()
    away = fetch(project, hub, home, "llama-3b")
    assert "could not be fetched" in away.stderr
    assert "Traceback" not in away.stderr


def test_local_folders_need_nothing_and_served_models_their_tokeniser():
    entries = {
        "pico": ModelEntry(name="resources/models/pico", engine="transformers"),
        "pinned": ModelEntry(name="a/b", revision="v1", tokenizer="c/d"),
        "remote": ModelEntry(
            name="theirs", engine="endpoint", base_url="https://x.org/v1", tokenizer="e/f"
        ),
    }
    assert wanted(entries, ROOT) == [
        Wanted("pinned", "a/b", "v1", whole=True),
        Wanted("pinned", "c/d", None, whole=False),
        Wanted("remote", "e/f", None, whole=False),
    ]


def test_what_is_announced():
    local = ModelEntry(name="resources/models/pico", engine="transformers", gpus=0)
    assert announced({"pico": local}, ROOT) == "nothing for pico"
    unknown = ModelEntry(name="a/b", tokenizer="c/d")
    assert announced({"m": unknown}, ROOT) == "a/b (size unknown), c/d (its tokeniser)"
    assert published_gib(ModelEntry(name="a/b", weights_gib=3, parameters_b=9)) == 3
    # Published in 16 bits, however it is computed.
    wide = ModelEntry(name="a/b", dtype="float32", parameters_b=2**30 / 1e9)
    assert published_gib(wide) == 2


def reachable() -> bool:
    try:
        return httpx.head("https://huggingface.co", timeout=5).status_code < 500
    except httpx.HTTPError:
        return False


@pytest.mark.skipif(not reachable(), reason="the hub cannot be reached from here")
def test_the_hub_itself_answers_as_the_stand_in_does(tmp_path):
    project = Project.copied_to(tmp_path / "project")
    project.edit("config/models.yaml", "google/gemma-2-2b-it", TINY)
    variables = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "prefetch", "--config", "models=[gemma-2b]"],
        cwd=project.folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    snapshots = list((tmp_path / "home/hub").glob("models--*/snapshots/*/config.json"))
    assert len(snapshots) == 1
