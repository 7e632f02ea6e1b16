"""Calls to an object in another process of this machine, over a Unix socket of its owner's alone.

Everything happens in the order and as far as it is asked for: an iterator's next value is computed
when it is wanted, as if the object were here, and one thread does all of it, so that what computes
cannot tell the difference. What the other process logs meanwhile is logged here.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from grace import errors
from grace.errors import GraceError

Opened = Callable[[Mapping[str, Any]], AbstractContextManager[Any]]
_BACKLOG = 64


class ServiceEndedError(Exception):
    """The other process is gone."""


class Client:
    """An object that another process opens, for as long as this is entered.

    Args:
        address: The socket of `serve`.
        arguments: What `opened` is called with there.

    Calls raise what the object raised if that is a `GraceError`, else `RuntimeError` with the
    other process's traceback, and `ServiceEndedError` where that process ends.
    """

    def __init__(self, address: Path, arguments: Mapping[str, Any]) -> None:
        self._connection = _connected(address)
        try:
            self._ask("open", dict(arguments))
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Have the object closed. It cannot be called afterwards."""
        self._connection.close()

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method returns that gives no iterator."""
        return self._ask("call", method, arguments)

    def iterate(self, method: str, *arguments: Any) -> Iterator[Any]:
        """What a method yields, value by value."""
        number = self._ask("iterate", method, arguments)
        try:
            while (found := self._ask("next", number)) is not None:
                yield found[0]
        finally:
            # One that was left before its end; what is closed already has no more to give.
            with suppress(ServiceEndedError):
                self._ask("leave", number)

    def _ask(self, *message: Any) -> Any:
        try:
            self._connection.send(message)
            while True:
                kind, *found = self._connection.recv()
                if kind != "log":
                    break
                name, level, text = found
                logging.getLogger(name).log(level, "%s", text)
        except (EOFError, OSError) as error:
            raise ServiceEndedError from error
        except BaseException:  # its answer would be taken for the next one's
            self._connection.close()
            raise
        if kind == "refused":
            name, text = found
            raise _refusal(name, text)
        if kind == "bug":
            raise RuntimeError(f"in the process that was asked:\n{found[0]}")
        return found[0]


def _refusal(name: str, text: str) -> GraceError:
    """The other process's error; an `EngineError` where it is none of `grace.errors`."""
    known = getattr(errors, name, errors.EngineError)
    is_ours = isinstance(known, type) and issubclass(known, GraceError)
    found: GraceError = known(text) if is_ours else errors.EngineError(text)
    return found


def _connected(address: Path) -> Connection:
    with socket.socket(socket.AF_UNIX) as made:
        try:
            made.connect(str(address))
        except OSError as error:
            raise ServiceEndedError from error
        return Connection(made.detach())


def answers(address: Path) -> bool:
    """Whether a process listens there."""
    try:
        _connected(address).close()
    except ServiceEndedError:
        return False
    return True


def listen(address: Path) -> socket.socket:
    """A socket that only this user can connect to."""
    listening = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listening.bind(str(address))
    finally:
        os.umask(before)
    listening.listen(_BACKLOG)
    return listening


def serve(listening: socket.socket, opened: Opened, methods: Collection[str]) -> None:
    """Open an object for each that connects, and call those methods of it, without end.

    One call at a time, of whoever. An object is closed when its caller closes it, or is gone.
    """
    log = _Forwarding()
    logging.getLogger().addHandler(log)
    logging.getLogger().setLevel(logging.INFO)
    with selectors.DefaultSelector() as selector:
        selector.register(listening, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    accepted, _ = listening.accept()
                    session = _Session(Connection(accepted.detach()), opened, methods)
                    selector.register(session.connection, selectors.EVENT_READ, session)
                    continue
                log.connection = key.data.connection
                if not key.data.answered():
                    selector.unregister(key.data.connection)
                    key.data.close()
                log.connection = None


class _Forwarding(logging.Handler):
    """Has what is logged during a call logged by who called."""

    connection: Connection | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.connection is not None:
            with suppress(OSError):  # who is gone is found so when there is an answer
                self.connection.send(("log", record.name, record.levelno, record.getMessage()))


class _Session:
    """One caller, its object, and what that is about to yield."""

    def __init__(self, connection: Connection, opened: Opened, methods: Collection[str]) -> None:
        self.connection = connection
        self._opened = opened
        self._methods = methods
        self._stack = ExitStack()
        self._object: Any = None
        self._iterators: dict[int, Iterator[Any]] = {}
        self._begun = 0
        self._kinds: dict[str, Callable[..., Any]] = {
            "open": self._open,
            "call": self._call,
            "iterate": self._iterate,
            "next": self._next,
            "leave": self._leave,
        }

    def answered(self) -> bool:
        """Answer what the caller asks next; False where it is gone."""
        try:
            kind, *arguments = self.connection.recv()
        except (EOFError, OSError):
            return False
        answer: tuple[Any, ...]
        try:
            answer = ("value", self._kinds[kind](*arguments))
        except GraceError as error:
            answer = ("refused", type(error).__name__, str(error))
        except Exception:
            answer = ("bug", traceback.format_exc())
        try:
            self.connection.send(answer)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close what was opened; what goes wrong here is for the log of this process."""
        self.connection.close()
        try:
            for iterator in self._iterators.values():
                _leave(iterator)
            self._stack.close()
        except Exception:
            traceback.print_exc(file=sys.stderr)

    def _open(self, arguments: Mapping[str, Any]) -> None:
        self._object = self._stack.enter_context(self._opened(arguments))

    def _method(self, name: str) -> Callable[..., Any]:
        if name not in self._methods:
            raise ValueError(f"no method of this name may be called: {name!r}")
        found: Callable[..., Any] = getattr(self._object, name)
        return found

    def _call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        return self._method(name)(*arguments)

    def _iterate(self, name: str, arguments: tuple[Any, ...]) -> int:
        self._begun += 1
        self._iterators[self._begun] = iter(self._method(name)(*arguments))
        return self._begun

    def _next(self, number: int) -> tuple[Any] | None:
        for value in self._iterators[number]:
            return (value,)
        return None

    def _leave(self, number: int) -> None:
        _leave(self._iterators.pop(number))


def _leave(iterator: Iterator[Any]) -> None:
    close = getattr(iterator, "close", None)
    if close is not None:
        close()
