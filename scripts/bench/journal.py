"""The journal against SQLite: size, opening, commits, many writers, kills, power cuts, no locks.

PYTHONPATH=scripts python -m bench.journal

Or name some of the measurements. Power cuts are real ones to a file system of their own (ext4's
shutdown call drops what was not synced); they need root.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import random
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parents[2] / "workflow" / "lib"))

from grace.journal import Journal
from grace.journal.index import Index
from grace.journal.lines import line_of

EXT4_IOC_SHUTDOWN, WITHOUT_FLUSHING = 0x8004587D, 2


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def value_of(key: str) -> dict[str, Any]:
    """Like a query of study 2: 8 options of 3 to 5 tokens, of which most are certain. 0.6 kB."""
    draw = random.Random(key)
    return {
        "token_logprobs": [[-1.19e-07] * (2 + n % 2) + [-draw.random()] for n in range(8)],
        "terminator_logprobs": [-draw.random() / 1e6 for _ in range(8)],
        "meta": {"model": "gemma-2b", "study": "study2"},
    }


class Store(Protocol):
    """What a writer process needs."""

    def add(self, key: str, value: dict[str, Any]) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class Sqlite:
    """A table with every commit on disk, the name of its folder too."""

    def __init__(self, folder: Path, mode: str, timeout: float = 60, vfs: str = "unix") -> None:
        uri = f"file:{folder / 'journal.sqlite'}?vfs={vfs}"
        self.base = sqlite3.connect(uri, timeout, uri=True, check_same_thread=False)
        self.base.execute(f"PRAGMA journal_mode={mode}")
        self.base.execute("PRAGMA synchronous=EXTRA")
        self.base.execute(
            "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value TEXT) WITHOUT ROWID"
        )
        self.base.commit()

    def add(self, key: str, value: dict[str, Any]) -> None:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        row = (bytes.fromhex(key), text)
        self.base.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", row)

    def flush(self) -> None:
        self.base.commit()

    def close(self) -> None:
        self.base.commit()
        self.base.close()


def never_synced(folder: Path) -> Store:
    """The journal without fsync: shows that the power cuts cut."""
    os.fsync = lambda descriptor: None  # type: ignore[assignment]
    return Journal(folder)


STORES: dict[str, Callable[[Path], Store]] = {
    "lines": Journal,
    "SQLite, rollback": lambda folder: Sqlite(folder, "DELETE"),
    "SQLite, WAL": lambda folder: Sqlite(folder, "WAL"),
    "SQLite, rollback, no locks": lambda folder: Sqlite(folder, "DELETE", vfs="unix-none"),
    "lines, no fsync": never_synced,
}
SOUND = ("lines", "SQLite, rollback", "SQLite, WAL")


def saved_in(name: str, folder: Path) -> set[str]:
    """The keys that are there. Raises `sqlite3.DatabaseError` where the file is corrupt."""
    if name.startswith("lines"):
        return {key.hex() for key in Index.load(folder)._rows}
    with closing(Sqlite(folder, "DELETE" if "rollback" in name else "WAL").base) as base:
        (verdict,) = base.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        return {key.hex() for (key,) in base.execute("SELECT key FROM answers")}


def write(name: str, folder: Path, first: int, count: int) -> None:
    """A writer process: one answer a commit; prints each number when its answer is on disk."""
    store = STORES[name](folder)
    for number in range(first, first + count):
        store.add(key_of(number), value_of(key_of(number)))
        store.flush()
        print(number, flush=True)
    store.close()


def writer(name: str, folder: Path, first: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "bench.journal", "--writer", name, str(folder)]
    command += [str(first), str(count)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pipesize=2**20
    )


def numbers(lines: Iterable[str]) -> set[int]:
    return {int(line) for line in lines if line.endswith("\n")}


@contextmanager
def folder_in(base: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=base) as folder:
        yield Path(folder)


# --- measurements


def opening(base: Path, answers: int) -> None:
    """Size on disk; time and memory until any key of a million can be looked up."""
    for name in SOUND:
        with folder_in(base) as folder:
            if name == "lines":
                with (folder / "0.jsonl").open("wb") as file:
                    for n in range(answers):
                        key = key_of(n)
                        file.write(line_of(bytes.fromhex(key), value_of(key)))
            else:
                store = STORES[name](folder)
                for n in range(answers):
                    store.add(key_of(n), value_of(key_of(n)))
                store.close()
            size = sum(path.stat().st_size for path in folder.iterdir())
            code = (
                "import sys,time,resource;from pathlib import Path;import bench.journal as b;"
                "m=resource.getrusage(0).ru_maxrss;t,c=time.time(),time.process_time();"
                f"s=b.STORES[{name!r}](Path(sys.argv[1]));"
                "print(time.time()-t,time.process_time()-c,resource.getrusage(0).ru_maxrss-m)"
            )
            command = [sys.executable, "-c", code, str(folder)]
            for _ in range(3):
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                wall, cpu, memory = map(float, done.stdout.split())
                print(
                    f"open, {name}: {size / answers:.0f} bytes an answer, opened in {wall:.2f} s"
                    f" ({cpu:.2f} s CPU), {memory / 1024:.0f} MiB",
                    flush=True,
                )


def commits(base: Path, answers: int) -> None:
    """Milliseconds an answer: each with a commit of its own, and all in one; bytes in files."""
    values = [(key_of(n), value_of(key_of(n))) for n in range(answers)]
    for name in SOUND:
        for each in (True, False):
            with folder_in(base) as folder:
                store = STORES[name](folder)
                began, cpu = time.perf_counter(), time.process_time()
                for key, value in values:
                    store.add(key, value)
                    if each:
                        store.flush()
                store.flush()
                wall = (time.perf_counter() - began) * 1e3 / answers
                cpu = (time.process_time() - cpu) * 1e3 / answers
                store.close()
            how = "a commit each" if each else "added without waiting"
            print(f"commits, {name}, {how}: {wall:.3f} ms an answer ({cpu:.3f} ms CPU)", flush=True)


def writers(base: Path, count: int, answers: int) -> None:
    """Many writers at once, a commit an answer."""
    for name in (*SOUND, "SQLite, rollback, no locks"):
        lost = corrupt = failed = 0
        rounds = 3
        began = time.perf_counter()
        for _ in range(rounds):
            with folder_in(base) as folder:
                STORES[name](folder).close()
                running = [writer(name, folder, n * answers, answers) for n in range(count)]
                saved: set[int] = set()
                for process in running:
                    out, _err = process.communicate()
                    saved |= numbers(out.splitlines(keepends=True))
                    failed += process.returncode != 0
                try:
                    found = saved_in(name, folder)
                    lost += len({key_of(n) for n in saved} - found)
                except sqlite3.DatabaseError:
                    corrupt += 1
        seconds = (time.perf_counter() - began) / rounds
        print(
            f"{count} writers, {name}: {seconds:.1f} s for {count * answers} answers; of {rounds}"
            f" rounds {corrupt} left a corrupt file; {failed} writers failed, {lost} saved answers"
            " lost in the others",
            flush=True,
        )


def kills(base: Path, rounds: int) -> None:
    """SIGKILL at random moments, 4 writers at a time, on the same files all the time."""
    for name in SOUND:
        draw = random.Random(name)
        with folder_in(base) as folder:
            saved: set[int] = set()
            for number in range(rounds):
                firsts = [(number * 4 + n) * 10**6 for n in range(4)]
                running = [writer(name, folder, first, 10**6) for first in firsts]
                for process in running:
                    assert process.stdout is not None
                    lines = [process.stdout.readline() for _ in range(draw.randint(1, 25))]
                    process.kill()
                    saved |= numbers(lines + process.stdout.readlines())
                    process.communicate()
            lost = len({key_of(n) for n in saved} - saved_in(name, folder))
        print(f"kill -9, {name}: {4 * rounds} kills, {len(saved)} saved, {lost} lost", flush=True)


def power_cuts(base: Path, rounds: int) -> None:
    """Power cuts to an ext4 file system at random moments."""
    for name in (*SOUND, "lines, no fsync"):
        draw = random.Random(name)
        saved_in_all = lost = corrupt = damaged = 0
        for _ in range(rounds):
            with folder_in(base) as folder:
                image, volume = folder / "image", folder / "volume"
                volume.mkdir()
                with image.open("wb") as file:
                    file.truncate(64 * 2**20)
                subprocess.run(["mkfs.ext4", "-qF", image], check=True)
                mount = ["mount", "-o", "loop", str(image), str(volume)]
                subprocess.run(mount, check=True)
                (volume / "journal").mkdir()
                os.sync()
                process = writer(name, volume / "journal", 0, 10**6)
                assert process.stdout is not None
                lines = [process.stdout.readline() for _ in range(draw.randint(1, 100))]
                # Only what was printed before the cut counts. A stopped writer may still be
                # inside an fsync.
                process.send_signal(signal.SIGSTOP)
                os.set_blocking(process.stdout.fileno(), False)
                saved = numbers(lines + process.stdout.readlines())
                descriptor = os.open(volume, os.O_RDONLY)
                fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING))
                os.close(descriptor)
                process.kill()
                process.wait()
                subprocess.run(["umount", volume], check=True)
                subprocess.run(mount, check=True)
                try:
                    found = saved_in(name, volume / "journal")
                    lost += len({key_of(n) for n in saved} - found)
                    if name.startswith("lines"):
                        damaged += Index.load(volume / "journal").damaged
                except sqlite3.DatabaseError:
                    corrupt += 1
                saved_in_all += len(saved)
                subprocess.run(["umount", volume], check=True)
        print(
            f"power cut, {name}: {rounds} cuts, {saved_in_all} saved, {lost} lost,"
            f" {corrupt} corrupt files, {damaged} damaged lines",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    measurements = ("open", "commits", "writers", "kills", "cuts")
    parser.add_argument("what", nargs="*", help=f"of {', '.join(measurements)} (default: all)")
    parser.add_argument("--folder", type=Path, default=Path(), help="on the disk to measure")
    parser.add_argument("--answers", type=int, default=1_000_000, help="in the journal opened")
    parser.add_argument("--commits", type=int, default=2424, help="answers that are committed")
    parser.add_argument("--writers", type=int, default=64, help="processes that write at once")
    parser.add_argument("--rounds", type=int, default=25, help="of kills and of power cuts")
    parser.add_argument("--writer", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer:
        name, folder, first, count = options.writer
        write(name, Path(folder), int(first), int(count))
        return
    base = options.folder.absolute()
    for what in options.what or measurements:
        if what == "open":
            opening(base, options.answers)
        elif what == "commits":
            commits(base, options.commits)
        elif what == "writers":
            writers(base, options.writers, 20)
        elif what == "kills":
            kills(base, options.rounds)
        elif what == "cuts":
            power_cuts(base, options.rounds)
        else:
            parser.error(f"{what} is none of {', '.join(measurements)}")


if __name__ == "__main__":
    main()
