"""Build an image from a Containerfile without a registry: the base comes from debootstrap.

Knows the instructions that envs/Containerfile uses (ARG, FROM, ENV, WORKDIR, COPY, RUN, USER) and
stops at any other. RUN sees the machine's name servers, certificates and pip configuration, whose
local folders are shown to it, and nothing of those goes into the image. Each stage is one layer of
a Docker archive, `image-<stage>.tar`, which `ctr image import` reads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

INSTRUCTION = re.compile(r"(?m)^([A-Z]+)[ \t]+((?:[^\\\n]|\\\n|\\.)*)$")
SUITE = "bookworm"
NAME = "localhost/grace"
#: What RUN may see of this machine, where it exists, and where: a package owns the second's place.
BORROWED = {
    "/etc/resolv.conf": "/etc/resolv.conf",
    "/etc/ssl/certs/ca-certificates.crt": "/srv/ca-certificates.crt",
}


@dataclass
class Stage:
    """What the instructions have said so far."""

    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions and their arguments, comments left out and lines joined."""
    plain = re.sub(r"(?m)^[ \t]*#.*\n", "", text)
    found = [(name, re.sub(r"\\\n[ \t]*", "", rest)) for name, rest in INSTRUCTION.findall(plain)]
    left = INSTRUCTION.sub("", plain).strip()
    if left:
        sys.exit(f"envs/Containerfile: cannot read {left!r}")
    return found


def up_to(wanted: str, text: str) -> list[tuple[str, str]]:
    """The instructions up to the end of a stage; each stage begins where the last ended."""
    found: list[tuple[str, str]] = []
    labels: list[str] = []
    for name, rest in instructions(text):
        if name == "FROM":
            source, _, label = rest.split()
            if wanted in labels:
                return found
            if labels and source != labels[-1]:
                sys.exit(f"envs/Containerfile: FROM {source} is not the stage before")
            labels.append(label)
        found.append((name, rest))
    if wanted not in labels:
        sys.exit(f"envs/Containerfile: no stage {wanted}")
    return found


def digest_of(recipe: Path, repository: Path, stage: str) -> str:
    """Digest of the recipe of a stage and of the files that it copies."""
    found = up_to(stage, recipe.read_text())
    hasher = hashlib.sha256(json.dumps([SUITE, *found]).encode())
    for name, rest in found:
        if name == "COPY":
            for source in shlex.split(rest)[:-1]:
                hasher.update((repository / source).read_bytes())
    return hasher.hexdigest()[:16]


def run(root: Path, stage: Stage, command: str) -> None:
    """A shell command in the image, in namespaces whose mounts end with it."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    # An index's pages may link to files beside it: the two topmost folders, such as /opt/wheels.
    named = [Path(path) for path in re.findall(r"/[\w./-]+", found.stdout)]
    local = {str(Path(*path.parts[:3])) for path in named if path.is_dir()}
    shown = {path: place for path, place in BORROWED.items() if Path(path).is_file()}
    shown |= {path: path for path in local if not path.startswith(("/etc", "/usr"))}
    script = ["set -e", f"cd {shlex.quote(str(root))}", "mount -t proc proc proc"]
    script += ["mount --rbind /dev dev", "mount -t tmpfs tmpfs tmp", "mkdir -m 1777 -p tmp"]
    made: list[Path] = []
    for path, place in shown.items():
        target = root / place.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.mkdir() if Path(path).is_dir() else target.touch()
            made.append(target)
        script.append(
            f"mount --bind {shlex.quote(str(Path(path).resolve()))} .{shlex.quote(place)}"
        )
    inner = shlex.join(["/bin/sh", "-c", 'cd "$0" && eval "$1"', stage.folder, command])
    script.append(f"exec /usr/sbin/chroot . {inner}")
    borrowed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "SSL_CERT")) or name.lower().endswith("_proxy")
    }
    # pip's own configuration may lie in a home folder; its values go by its variables instead.
    for line in found.stdout.splitlines():
        key, _, value = line.partition("=")
        if not key.startswith(":env:"):
            borrowed["PIP_" + key.split(".", 1)[1].upper().replace("-", "_")] = value.strip("'")
    for path, place in shown.items():
        borrowed = {name: value.replace(path, place) for name, value in borrowed.items()}
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(script)],
        env={"PATH": os.defpath, **stage.environment, **borrowed},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    for target in made:
        target.rmdir() if target.is_dir() else target.unlink()
    if done.returncode:
        sys.exit(f"envs/Containerfile: this failed in the image: {command}")


def base(cache: Path, root: Path) -> None:
    """A minimal Debian with the machine's own mirrors."""
    archive = cache / f"base-{SUITE}.tar"
    sources = [
        re.sub(r"\[.*?\] ", "", line)
        for line in (cache / "apt" / "sources.list").read_text().splitlines()
        if line.startswith("deb ")
    ]
    if not archive.exists():
        first = cache / "base"
        shutil.rmtree(first, ignore_errors=True)
        mirror = next(line.split()[1] for line in sources if line.split()[2] == SUITE)
        subprocess.run(
            ["debootstrap", "--variant=minbase", SUITE, str(first), mirror],
            env={**os.environ, "DEBOOTSTRAP_DIR": str(cache / "root/usr/share/debootstrap")},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        (first / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
        (first / "etc/apt/apt.conf.d/90sandbox").write_text('APT::Sandbox::User "root";\n')
        part = archive.with_suffix(".part")
        subprocess.run(
            ["tar", "-C", str(first), "--one-file-system", "-cf", str(part), "."], check=True
        )
        part.rename(archive)
        shutil.rmtree(first)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    subprocess.run(["tar", "-C", str(root), "-xpf", str(archive)], check=True)


def build(recipe: Path, repository: Path, cache: Path, wanted: str) -> Stage:
    """Carry out the recipe up to the end of a stage, in `<cache>/image-root`."""
    root = cache / "image-root"
    base(cache, root)
    stage = Stage()
    for name, rest in up_to(wanted, recipe.read_text()):
        print(f"   {name} {rest[:90]}", flush=True)
        if name in ("ARG", "FROM"):
            continue
        if name == "ENV":
            stage.environment |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif name == "WORKDIR":
            stage.folder = rest
            (root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            stage.user = rest
        elif name == "COPY":
            *sources, target = shlex.split(rest)
            folder = root / stage.folder.lstrip("/") / target
            folder.mkdir(parents=True, exist_ok=True)
            for source in sources:
                shutil.copy(repository / source, folder)
        elif name == "RUN":
            run(root, stage, rest)
        else:
            sys.exit(f"envs/Containerfile: {name} is not known to tests/cluster/containerfile.py")
    return stage


def archive(root: Path, stage: Stage, tag: str, target: Path) -> None:
    """The file tree as a Docker archive with one layer."""
    layer = root.with_name("layer.tar")
    subprocess.run(
        ["tar", "-C", str(root), "--one-file-system", "--numeric-owner", "-cf", str(layer), "."],
        check=True,
    )
    write_archive(layer, stage, tag, target)
    layer.unlink()


def write_archive(layer: Path, stage: Stage, tag: str, target: Path) -> None:
    """A Docker archive of one layer that is a tar file already."""
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": [f"{name}={value}" for name, value in stage.environment.items()],
            "WorkingDir": stage.folder,
            "User": stage.user,
            "Entrypoint": stage.entrypoint,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    folder = layer.parent
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "manifest.json").write_text(
        json.dumps([{"Config": "config.json", "RepoTags": [tag], "Layers": [layer.name]}])
    )
    part = target.with_suffix(".part")
    with tarfile.open(part, "w") as out:
        for name in ("manifest.json", "config.json", layer.name):
            out.add(folder / name, name)
    part.rename(target)
    for name in ("manifest.json", "config.json"):
        (folder / name).unlink()


def pause_image(cache: Path) -> None:
    """The image of the process that holds a pod's network."""
    target = cache / "pause.tar"
    if target.exists():
        return
    layer = cache / "pause-layer.tar"
    with tarfile.open(layer, "w") as out:
        out.add(cache / "kubernetes" / "pause", "pause")
    stage = Stage(entrypoint=["/pause"])
    write_archive(layer, stage, "localhost/pause:1", target)
    layer.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--stage", required=True)
    parser.add_argument("--digest", action="store_true", help="only print what names the image")
    arguments = parser.parse_args()
    cache: Path = arguments.cache
    recipe = arguments.repository / "envs" / "Containerfile"
    digest = digest_of(recipe, arguments.repository, arguments.stage)
    if arguments.digest:
        print(digest)
        return
    pause_image(cache)
    target = cache / f"image-{digest}.tar"
    if not target.exists():
        for old in cache.glob("image-*.tar"):
            old.unlink()
        stage = build(recipe, arguments.repository, cache, arguments.stage)
        archive(cache / "image-root", stage, f"{NAME}:{digest}", target)
        shutil.rmtree(cache / "image-root")
    (cache / "image").write_text(f"{NAME}:{digest}\n")


if __name__ == "__main__":
    main()
