"""An archive that is not what was archived is refused by `reproduce`, which runs nothing of it.

Every tampering is done to an archive that `grace.provenance.archive` wrote of a small finished run.
The Snakefile in it would leave a file behind if it were read.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import finished_run as run
import pytest

from grace.digests import file_digest
from grace.errors import RecordError
from grace.provenance import crate, reproduce
from grace.provenance.archive import Job, sources, study_files
from grace.provenance.sidecars import record_digest, sidecar
from grace.runs import leftovers

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archived")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run.build(Path())
        return folder / run.archived(Path())


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The folders in which Snakemake was started."""
    started: list[Path] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "run", lambda folder, _: started.append(folder) or 0)
    return started


def content(archive: Path) -> Files:
    with zipfile.ZipFile(archive) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in files.items():
            bundle.writestr(name, data)
    return path


def with_manifest(files: Files) -> None:
    """Rebuild the manifest, as a forger would who leaves the metadata."""
    files[crate.MANIFEST] = b"".join(
        f"{sha(data)}  {name}\n".encode()
        for name, data in sorted(files.items())
        if name != crate.MANIFEST
    )


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_whole_archive_runs_and_says_its_digest(archived, ran, capsys):
    assert reproduce.main([str(archived), "--dry-run"]) == 0
    assert ran == [Path("crate-reproduced")]
    digest = record_digest(archived.parent / run.REPORT)
    assert f"The digest of its report is {digest}." in capsys.readouterr().out
    assert not (ran[0] / "results").exists()
    assert (ran[0] / "conftest.py").exists()
    assert not (ran[0] / run.WEIGHTS).exists()  # nor were they archived


def test_its_manifest_is_one_that_sha256sum_reads(archived, tmp_path):
    shutil.unpack_archive(archived, tmp_path)
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", crate.MANIFEST], cwd=tmp_path, check=False
    )
    assert done.returncode == 0


def test_an_unpacked_archive_is_as_good_and_by_products_in_it_are_left(archived, ran, tmp_path):
    shutil.unpack_archive(archived, tmp_path / "unpacked")
    cache = tmp_path / "unpacked/scripts/__pycache__"
    cache.mkdir()
    (cache / "step.pyc").write_text("compiled by somebody")
    assert reproduce.main([str(tmp_path / "unpacked")]) == 0
    assert not (ran[0] / "scripts/__pycache__").exists()


def test_the_published_digest_is_compared(archived, ran, capsys):
    assert reproduce.main([str(archived), "--digest", "0" * 64]) == 1
    assert "not the published report" in capsys.readouterr().err
    assert ran == []


def changed(name: str) -> Callable[[Files], None]:
    def tamper(files: Files) -> None:
        files[name] += b"\n# appended"

    return tamper


def removed(name: str) -> Callable[[Files], None]:
    return lambda files: files.pop(name) and None


def added(name: str) -> Callable[[Files], None]:
    return lambda files: files.__setitem__(name, b"open('it-ran', 'w')\n")


def swapped(files: Files) -> None:
    files[run.ANSWERS], files[run.SCORES] = files[run.SCORES], files[run.ANSWERS]


def metadata_edited(files: Files) -> None:
    files[crate.METADATA] = files[crate.METADATA].replace(b"A. Person", b"B. Person")


def digest_edited(files: Files) -> None:
    """A file with its digest in the metadata, but not in the manifest."""
    before = sha(files["Snakefile"])
    files["Snakefile"] += b"\n"
    files[crate.METADATA] = files[crate.METADATA].replace(
        before.encode(), sha(files["Snakefile"]).encode()
    )


def manifest_too(tamper: Callable[[Files], None]) -> Callable[[Files], None]:
    def both(files: Files) -> None:
        tamper(files)
        with_manifest(files)

    return both


def edited_with_its_record(files: Files) -> None:
    """And with manifest and metadata: what is left is the chain."""
    old = files[run.TABLE]
    files[run.TABLE] = old.replace(b"61%", b"99%")
    name = sidecar(Path(run.TABLE)).as_posix()
    record = json.loads(files[name])
    record |= {"sha256": sha(files[run.TABLE]), "bytes": len(files[run.TABLE])}
    own = re.search(rb'"digest": "(\w+)"', files[name])
    assert own
    text = json.dumps({**record, "digest": "0" * 64}, indent=2) + "\n"
    new = text.replace("0" * 64, sha(text.encode()), 1).encode()
    described = files[crate.METADATA]
    for before, after in ((old, files[run.TABLE]), (files[name], new)):
        described = described.replace(sha(before).encode(), sha(after).encode())
    files[name], files[crate.METADATA] = new, described
    with_manifest(files)


def all_results_removed(files: Files) -> None:
    """From the metadata and the manifest, too: what is left has nothing to be compared with."""
    for name in [one for one in files if one.startswith("results/")]:
        del files[name]
    files["results/README.md"] = b"What will be here.\n"
    described = json.loads(files[crate.METADATA])
    described["@graph"] = [
        one for one in described["@graph"] if not one["@id"].startswith("results/")
    ] + [{"@id": "results/README.md", "sha256": sha(files["results/README.md"])}]
    files[crate.METADATA] = json.dumps(described).encode()
    with_manifest(files)


def record_edited(files: Files) -> None:
    name = sidecar(Path(run.REPORT)).as_posix()
    files[name] = files[name].replace(b'"rule": "step"', b'"rule": "mine"')


def names_what_is_outside(files: Files) -> None:
    """A record of the report that has a file of the kernel's read, which has no end."""
    name = sidecar(Path(run.REPORT)).as_posix()
    record = json.loads(files[name])
    record["inputs"]["/proc/kcore"] = "1" * 64
    text = json.dumps({**record, "digest": "0" * 64}, indent=2) + "\n"
    new = text.replace("0" * 64, sha(text.encode()), 1).encode()
    files[crate.METADATA] = files[crate.METADATA].replace(
        sha(files[name]).encode(), sha(new).encode()
    )
    files[name] = new
    with_manifest(files)


TAMPERINGS: dict[str, Callable[[Files], None]] = {
    "code changed": changed("Snakefile"),
    "code changed, manifest too": manifest_too(changed("Snakefile")),
    "code changed, metadata too": digest_edited,
    "a script changed": changed(run.STEP),
    "a script changed, manifest too": manifest_too(changed(run.STEP)),
    "an answer changed": changed(run.ANSWERS),
    "answers swapped": swapped,
    "stimuli changed": changed(run.STIMULI),
    "settings changed": changed(crate.RUN_CONFIG),
    "settings changed, manifest too": manifest_too(changed(crate.RUN_CONFIG)),
    "settings are no mapping": lambda files: files.__setitem__(crate.RUN_CONFIG, b"- 1"),
    "settings name a folder above": lambda f: f.__setitem__(crate.RUN_CONFIG, b"results: ../.."),
    "settings lack their end": lambda files: files.__setitem__(crate.RUN_CONFIG, b"results: [1,"),
    "settings are binary": lambda files: files.__setitem__(crate.RUN_CONFIG, b"\xff\xfe"),
    "metadata edited": metadata_edited,
    "metadata emptied": lambda files: files.__setitem__(crate.METADATA, b"{}"),
    "metadata nested": lambda files: files.__setitem__(crate.METADATA, b"[" * 100_000),
    "metadata is no JSON": lambda files: files.__setitem__(crate.METADATA, b"\xff"),
    "preview edited": changed(crate.PREVIEW),
    "manifest edited": changed(crate.MANIFEST),
    "manifest removed": removed(crate.MANIFEST),
    "manifest emptied": lambda files: files.__setitem__(crate.MANIFEST, b""),
    "a record edited": record_edited,
    "a record edited, manifest too": manifest_too(record_edited),
    "a record removed": removed(sidecar(Path(run.TABLE)).as_posix()),
    "a result removed": removed(run.TABLE),
    "a result edited with record, manifest and metadata": edited_with_its_record,
    "all results removed, manifest and metadata too": all_results_removed,
    "a record names a file outside": names_what_is_outside,
    "the workflow removed": removed("Snakefile"),
    "conftest.py changed": changed("conftest.py"),
    "sitecustomize.py added": added("sitecustomize.py"),
    "a module added": added("workflow/lib/yaml.py"),
    "a module added, manifest too": manifest_too(added("workflow/lib/yaml.py")),
    "a .pth file added": added("workflow/lib/x.pth"),
    "a profile added": added("profiles/default/config.yaml"),
    "a hidden file added": added("workflow/.hidden"),
    "a result added": added("results/analysis/more.csv"),
}


@pytest.mark.parametrize("tamper", TAMPERINGS.values(), ids=TAMPERINGS)
@pytest.mark.parametrize("unpacked", [False, True], ids=["zip", "folder"])
def test_a_tampered_archive_is_refused_with_a_list_and_nothing_of_it_runs(
    archived, ran, tmp_path, capsys, tamper, unpacked
):
    files = content(archived)
    before = dict(files)
    tamper(files)
    assert files != before
    path = zipped(tmp_path / "tampered.zip", files)
    if unpacked:
        shutil.unpack_archive(path, tmp_path / "tampered")
        path = tmp_path / "tampered"
    assert reproduce.main([str(path), "--dry-run"]) == 1
    assert ran == []
    assert not Path("tampered-reproduced").exists()
    told = capsys.readouterr().err
    assert told.strip()
    assert "Traceback" not in told
    assert not Path("it-ran").exists()


def test_every_difference_is_in_the_list(archived, ran, tmp_path, capsys):
    files = content(archived)
    changed("Snakefile")(files)
    added("sitecustomize.py")(files)
    removed("README.md")(files)
    assert reproduce.main([str(zipped(tmp_path / "tampered.zip", files))]) == 1
    told = capsys.readouterr().err
    assert "Snakefile: changed" in told
    assert "sitecustomize.py: added" in told
    assert "README.md: missing" in told
    assert "Refused" in told


def test_trust_goes_on_with_the_list(archived, ran, tmp_path, capsys):
    files = content(archived)
    changed("Snakefile")(files)
    record_edited(files)
    assert reproduce.main([str(zipped(tmp_path / "tampered.zip", files)), "--trust"]) == 0
    assert "Snakefile: changed" in capsys.readouterr().err
    assert ran == [Path("tampered-reproduced")]


# --- what no archive holds, trusted or not


def member(name: str, kind: int = stat.S_IFREG, data: bytes = b"x") -> Callable[..., None]:
    def add(bundle: zipfile.ZipFile) -> None:
        info = zipfile.ZipInfo("placeholder")
        info.filename = info.orig_filename = name
        info.external_attr = (kind | 0o644) << 16
        bundle.writestr(info, data)

    return add


def bomb(bundle: zipfile.ZipFile) -> None:
    with bundle.open("zeros", "w", force_zip64=True) as file:
        for _ in range(64):
            file.write(bytes(2**20))


MEMBERS: dict[str, Callable[..., None]] = {
    "traversal": member("../outside"),
    "traversal further in": member("workflow/../../outside"),
    "absolute path": member("/tmp/outside"),
    "another system's path": member("..\\outside"),
    "a drive": member("C:outside"),
    "an empty part": member("workflow//outside"),
    "a dot": member("./Snakefile"),
    "a control character": member("work\x1bflow"),
    "symlink": member("link", stat.S_IFLNK, b"/etc/passwd"),
    "symlink to a folder": member("workflow/x", stat.S_IFLNK, b"/tmp"),
    "device": member("device", stat.S_IFCHR),
    "pipe": member("pipe", stat.S_IFIFO),
    "a file twice": member("Snakefile"),
    "a folder in a file's place": member("README.md/x"),
    "a compiled module": member("scripts/__pycache__/step.pyc"),
    "a hook": member(".git/hooks/post-checkout"),
    "zip bomb": bomb,
}


@pytest.mark.parametrize("add", MEMBERS.values(), ids=MEMBERS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_zip_is_not_unpacked_even_where_it_is_trusted(
    archived, ran, tmp_path, capsys, monkeypatch, add
):
    monkeypatch.setattr(crate, "UNPACKED_ANYHOW", 2**24)
    path = tmp_path / "hostile.zip"
    shutil.copy(archived, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as bundle:
        add(bundle)
    assert reproduce.main([str(path), "--trust"]) == 1
    assert ran == []
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "refused" in told or "damaged" in told
    assert sorted(one.name for one in tmp_path.iterdir()) == ["hostile.zip"]
    assert not Path("/tmp/outside").exists()


@pytest.mark.parametrize("kind", ["link", "folder link", "pipe"])
def test_links_and_devices_in_a_folder_are_refused_even_where_it_is_trusted(
    archived, ran, tmp_path, capsys, kind
):
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(archived, unpacked)
    path = unpacked / "workflow"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/etc/passwd" if kind == "link" else "/etc")
    assert reproduce.main([str(unpacked), "--trust"]) == 1
    assert ran == []
    assert "workflow in the crate is a link, a device" in capsys.readouterr().err


def test_a_cut_archive_is_refused(archived, ran, tmp_path, capsys):
    path = tmp_path / "cut.zip"
    path.write_bytes(archived.read_bytes()[:-1000])
    assert reproduce.main([str(path)]) == 1
    assert "neither a folder nor a whole zip file" in capsys.readouterr().err
    spoilt = bytearray(archived.read_bytes())
    spoilt[2000] ^= 255
    path.write_bytes(spoilt)
    assert reproduce.main([str(path)]) == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(40))
def test_an_archive_with_spoilt_bytes_is_refused_or_unpacks_to_the_same(
    archived, ran, tmp_path, capsys, seed
):
    chance = random.Random(seed)
    spoilt = bytearray(archived.read_bytes())
    for _ in range(chance.choice([1, 3, 20])):
        # Half of them in the list of files, at the end.
        first = chance.choice([0, len(spoilt) - 3000])
        spoilt[chance.randrange(first, len(spoilt))] = chance.randrange(256)
    path = tmp_path / "spoilt.zip"
    path.write_bytes(spoilt)
    status = reproduce.main([str(path)])
    assert "Traceback" not in capsys.readouterr().err
    assert status == (0 if ran else 1)
    if ran:
        whole = content(archived)
        for name in ("Snakefile", "conftest.py", run.STEP, crate.RUN_CONFIG):
            assert (ran[0] / name).read_bytes() == whole[name]


# --- what killed processes leave


KILLED = """
import os, signal, sys
from pathlib import Path
from grace.runs.leftovers import replaced, scratch_folder
with scratch_folder() as folder, replaced(Path("crate.zip")) as partial:
    (folder / "unpacked").write_text("x")
    partial.write_text("half")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(folder: Path) -> Path:
    """The scratch folder of a process that was killed while it wrote an archive in `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=folder, stdout=subprocess.PIPE, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == -9
    return Path(done.stdout.strip())


def test_what_a_killed_archive_left_goes_with_the_next_run_or_archive(tmp_path):
    left = killed(tmp_path)
    assert left.exists()
    assert [path.name[:11] for path in tmp_path.iterdir()] == [".crate.zip."]
    assert leftovers.remove_partials(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []
    with leftovers.scratch_folder():
        assert not left.exists()
    killed(tmp_path)
    with leftovers.replaced(tmp_path / "crate.zip") as partial:
        assert list(tmp_path.iterdir()) == []
        partial.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["crate.zip"]


def test_what_living_processes_write_stays(tmp_path):
    with leftovers.replaced(tmp_path / "a") as partial, leftovers.scratch_folder() as folder:
        partial.write_text("half")
        (tmp_path / ".b.@0123456789ab@1@.part").write_text("on another host")
        assert leftovers.remove_partials(tmp_path) == 0
        with leftovers.scratch_folder():
            assert folder.exists()
        os.utime(tmp_path / ".b.@0123456789ab@1@.part", (0, 0))
        assert leftovers.remove_partials(tmp_path) == 1


def test_code_that_git_does_not_track_is_archived_with_what_it_made(tmp_path):
    engine = "workflow/lib/grace/engines/toy/engine.py"
    job = Job({"inputs": {}, "code": {"scripts/score.py": "", engine: ""}}, ("results/a.json",))
    assert sources([job], tmp_path) == ["scripts/score.py", engine]


def test_a_study_that_git_does_not_track_is_archived_whole(tmp_path):
    toy = tmp_path / "toy"
    for name in ("study.yaml", "theory.py", "prompts/seed/ask.j2", "__pycache__/theory.pyc"):
        (toy / name).parent.mkdir(parents=True, exist_ok=True)
        (toy / name).write_text(name)
    kept = ["toy/prompts/seed/ask.j2", "toy/study.yaml", "toy/theory.py"]
    assert study_files([toy], tmp_path) == kept
    with pytest.raises(RecordError, match="toy lies outside of the project"):
        study_files([toy], tmp_path / "elsewhere")


def test_an_archive_that_fails_leaves_nothing(tmp_path):
    def fail() -> None:
        with leftovers.replaced(tmp_path / "crate.zip") as partial:
            partial.write_text("half")
            raise OSError("no more space")

    with pytest.raises(OSError, match="no more space"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_digest_of_a_file_is_that_of_the_manifest(archived, tmp_path):
    shutil.unpack_archive(archived, tmp_path)
    listed = crate.digests_in((tmp_path / crate.MANIFEST).read_text())
    assert listed["Snakefile"] == file_digest(tmp_path / "Snakefile")
    assert set(listed) == set(crate.files_in(tmp_path)) - {crate.MANIFEST}
