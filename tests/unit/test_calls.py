"""Calls to an object in another process: order, errors, ends, and who may connect."""

from __future__ import annotations

import logging
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE_S, wait_until

from grace.errors import ConfigError, EngineError
from grace.serving.calls import Client, ServiceEndedError, answers
from grace.source_code import LIBRARY

TOY = textwrap.dedent(
    """
    import contextlib, logging, os, signal, sys
    from pathlib import Path
    from grace.errors import ConfigError
    from grace.models.chat import ControlTokenError
    from grace.serving.calls import listen, serve

    folder = Path(sys.argv[1])

    class Toy:
        def __init__(self, name):
            self.name, self.at = name, 0
        def count(self, most):
            try:
                for self.at in range(1, most + 1):
                    logging.getLogger("toy").info("computes %d", self.at)
                    yield self.at * 0.1
            finally:
                note(f"{self.name} left at {self.at}")
        def where(self):
            return self.at
        def fails(self, how):
            if how == "plainly":
                raise ConfigError("config: no")
            if how == "with a token":
                raise ControlTokenError("a text", "<end>")
            if how == "at once":
                os.kill(os.getpid(), signal.SIGKILL)
            return 1 / 0
        def secret(self):
            return 1

    def note(text):
        with (folder / "notes").open("a") as notes:
            notes.write(text + "\\n")

    @contextlib.contextmanager
    def opened(arguments):
        if arguments["name"] == "broken":
            raise ConfigError("it cannot be opened")
        yield Toy(arguments["name"])
        note(f"{arguments['name']} closed")

    serve(listen(folder / "socket"), opened, {"count", "where", "fails"})
    """
)


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("toys")
    with started(folder):
        yield folder


def started(folder: Path) -> _Ended:
    process = subprocess.Popen(
        [sys.executable, "-c", TOY, str(folder)], env={"PYTHONPATH": str(LIBRARY.parent)}
    )
    wait_until(lambda: answers(folder / "socket"), PATIENCE_S, "the toy listens")
    return _Ended(process)


class _Ended:
    """The process, which a block's end kills."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def __enter__(self) -> subprocess.Popen[bytes]:
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def notes(folder: Path) -> list[str]:
    path = folder / "notes"
    return path.read_text().splitlines() if path.exists() else []


def test_values_come_when_they_are_asked_for_and_calls_may_stand_between(toys, caplog):
    caplog.set_level(logging.INFO)
    client = Client(toys / "socket", {"name": "lazy"})
    values = client.iterate("count", 3)
    assert client.call("where") == 0, "nothing is computed before it is asked for"
    assert next(values) == 0.1
    assert client.call("where") == 1
    second = client.iterate("count", 1)
    assert list(second) == [0.1]
    assert list(values) == [0.2, 3 * 0.1], "every bit of a number arrives"
    logged = [record.getMessage() for record in caplog.records if record.name == "toy"]
    assert logged == [f"computes {number}" for number in (1, 1, 2, 3)]
    client.close()
    wait_until(lambda: "lazy closed" in notes(toys), PATIENCE_S, "it is closed")


def test_an_iterator_that_is_left_is_left_there_too(toys):
    client = Client(toys / "socket", {"name": "left"})
    for value in client.iterate("count", 9):
        if value > 0.15:
            break
    assert "left left at 2" in notes(toys)
    assert client.call("where") == 2, "calls go on"
    client.close()


def test_a_caller_that_is_killed_has_its_object_closed_and_disturbs_nobody(toys):
    code = (
        "import sys, time; from pathlib import Path; from grace.serving.calls import Client;"
        f" client = Client(Path({str(toys / 'socket')!r}), {{'name': 'killed'}});"
        " values = client.iterate('count', 9); print(next(values), flush=True); time.sleep(600)"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(LIBRARY.parent)},
        stdout=subprocess.PIPE,
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == b"0.1\n"
    other = Client(toys / "socket", {"name": "other"})
    caller.kill()
    caller.communicate()
    wait_until(lambda: "killed closed" in notes(toys), PATIENCE_S, "it is closed")
    assert "killed left at 1" in notes(toys)
    assert list(other.iterate("count", 1)) == [0.1]
    other.close()


def test_errors_arrive_as_what_they_are(toys):
    with pytest.raises(ConfigError, match=r"^it cannot be opened$"):
        Client(toys / "socket", {"name": "broken"})
    client = Client(toys / "socket", {"name": "fails"})
    with pytest.raises(ConfigError, match=r"^config: no$"):
        client.call("fails", "plainly")
    with pytest.raises(EngineError, match=r"^a text$"):
        client.call("fails", "with a token")
    with pytest.raises(RuntimeError, match=r"(?s)Traceback.*in fails.*ZeroDivisionError"):
        client.call("fails", "by a bug")
    with pytest.raises(RuntimeError, match="no method of this name may be called: 'secret'"):
        client.call("secret")
    assert client.call("where") == 0, "calls go on"
    client.close()


def test_only_its_user_may_connect(toys):
    assert stat.S_IMODE((toys / "socket").stat().st_mode) == 0o600


def test_a_process_that_ends_is_reported_and_so_is_one_that_never_was(tmp_path):
    with started(tmp_path):
        client = Client(tmp_path / "socket", {"name": "dies"})
        values = client.iterate("count", 3)
        next(values)
        with pytest.raises(ServiceEndedError):
            client.call("fails", "at once")
        with pytest.raises(ServiceEndedError):
            next(values)
    assert not answers(tmp_path / "socket")
    with pytest.raises(ServiceEndedError):
        Client(tmp_path / "nowhere", {"name": "x"})
