"""The journal as its users see it: look an answer up, add one, know that it is on disk."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from grace.errors import JournalError
from grace.journal.compaction import compact
from grace.journal.index import Index, line_at
from grace.journal.lines import check_of, key_in, line_of, raw_key, value_in
from grace.journal.segments import SegmentWriter, make_folder

logger = logging.getLogger(__name__)

#: Closed segments from which opening a journal merges them.
MERGED_FROM = 32


class Journal:
    """An append-only store of answers by the digest of all that determines them.

    `add` returns at once; a thread puts what was added on disk, all of it in one write and one
    fsync, at the latest `commit_interval_s` later, or when the last such commit is done. `flush`
    waits for it. Any number of processes may use one folder; each sees what the others had saved
    when it opened the journal. Use it as a context manager, and not across a fork.

    A failed commit (`JournalError`) is final: it is raised by every later `add`, `flush` and
    `close`, and what was saved before stays. So is a volume that takes longer than `timeout_s`.
    """

    def __init__(
        self, folder: Path, *, commit_interval_s: float = 0.2, timeout_s: float = 300.0
    ) -> None:
        """Open the journal of a folder, new or not. Raises `JournalError`."""
        self.folder = folder.absolute()
        self._interval_s = commit_interval_s
        self._timeout_s = timeout_s
        self._pending: dict[bytes, bytes] = {}  # key: line, added and not yet on disk
        self._added = self._committed = 0
        self._waiting = 0  # calls of flush
        self._closing = False
        self._commit_began: float | None = None
        self._error: JournalError | None = None
        self._changed = threading.Condition()
        try:
            make_folder(self.folder)
            self._writer = SegmentWriter(self.folder)
            compact(self.folder, at_least=MERGED_FROM)
            self._index = Index.load(self.folder)
        except OSError as error:
            raise explained(error, self.folder) from error
        logger.info(
            "journal %s: %d answers in %d files",
            self.folder,
            len(self._index),
            len(self._index.segments),
        )
        self._thread = threading.Thread(target=self._commit_all, name="journal", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        with self._changed:
            return len(self._index) + len(self._pending)

    def __contains__(self, key: str) -> bool:
        raw = raw_key(key)
        with self._changed:
            return raw in self._pending or raw in self._index

    @property
    def damaged(self) -> int:
        """Damaged lines found in the journal; they count as not answered."""
        return self._index.damaged

    @property
    def conflicts(self) -> int:
        """Answers that differ from an earlier one to the same key."""
        return self._index.conflicts

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer to a key, or None. Raises `JournalError`."""
        raw = raw_key(key)
        with self._changed:
            if raw in self._pending:
                return value_in(self._pending[raw])
            try:
                return self._read(raw)
            except OSError as error:
                raise explained(error, self.folder) from error

    def add(self, key: str, value: Mapping[str, Any]) -> None:
        """Save an answer soon, as JSON. One that is there already stays as it is.

        Raises `ValueError` or `TypeError` for what JSON cannot hold, NaN and infinity included,
        `JournalError` where the journal no longer works.
        """
        raw = raw_key(key)
        line = line_of(raw, value)
        with self._changed:
            self._refuse_if_failed()
            known = self._index.find(raw)
            if raw in self._pending or known is not None:
                check = known.check if known else check_of(self._pending[raw])
                if check != check_of(line):
                    self._index.report_conflict(raw)
                return
            self._pending[raw] = line
            self._added += 1
            self._changed.notify_all()

    def flush(self) -> None:
        """Return when everything added before is on disk. Raises `JournalError`."""
        with self._changed:
            goal = self._added
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._committed >= goal or self._error is not None, self._timeout_s
            )
            self._waiting -= 1
            if self._committed < goal:
                raise self._error or self._unresponsive()

    def close(self) -> None:
        """Save everything and end. Raises `JournalError`."""
        if self._closing:
            return
        try:
            self.flush()
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._thread.join(self._timeout_s if self._commit_began is None else 0)
            if not self._thread.is_alive():
                self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, key: bytes) -> dict[str, Any] | None:
        """The saved answer, its line checked again. Raises `OSError`."""
        place = self._index.find(key)
        if place is None:
            return None
        try:
            line = line_at(place)
        except FileNotFoundError:  # merged into another segment since the journal opened
            self._index = Index.load(self.folder)
            place = self._index.find(key)
            if place is None:
                return None
            line = line_at(place)
        value = value_in(line) if key_in(line) == key else None
        if value is None:
            logger.warning("%s, byte %d: damaged since the journal opened", *place[:2])
            self._index.forget(key)
        return value

    def _commit_all(self) -> None:
        """The thread's work: commit what is pending, again and again, until closed or failed."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closing)
                if not self._pending:
                    return
                batch = list(self._pending.items())
                self._commit_began = time.monotonic()
            error = self._failure_of(batch)
            with self._changed:
                self._error = error
                self._commit_began = None
                self._changed.notify_all()
                if error is not None:
                    return
                self._changed.wait_for(lambda: self._waiting or self._closing, self._interval_s)

    def _failure_of(self, batch: list[tuple[bytes, bytes]]) -> JournalError | None:
        """Commit a batch; why it failed, or None."""
        try:
            self._commit(batch)
        except JournalError as error:
            return error
        except OSError as error:
            return explained(error, self.folder)
        except Exception as error:  # a bug: raised where one adds or flushes, not lost
            logger.exception("a bug in Grace, please report it:")
            return JournalError(f"the journal {self.folder} failed: {error!r}")
        return None

    def _commit(self, batch: list[tuple[bytes, bytes]]) -> None:
        if self._writer.paused():
            self._writer.close()
            self._writer = SegmentWriter(self.folder)
        offset = self._writer.append(b"".join(line for _, line in batch))
        with self._changed:
            for key, line in batch:
                self._index.add(key, self._writer.path, offset, check_of(line))
                offset += len(line)
                del self._pending[key]
            self._committed += len(batch)

    def _refuse_if_failed(self) -> None:
        if self._closing:
            raise JournalError(f"the journal {self.folder} is closed")
        if self._error is not None:
            raise self._error
        began = self._commit_began
        if began is not None and time.monotonic() - began > self._timeout_s:
            raise self._unresponsive()

    def _unresponsive(self) -> JournalError:
        return JournalError(
            f"the volume of the journal {self.folder} has not answered for {self._timeout_s:g} s."
            " Check it and run again: only what is not saved is asked again"
        )


def explained(error: OSError, folder: Path) -> JournalError:
    """What a person should know of a failed read or write of a journal."""
    place = error.filename or folder
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return JournalError(
            f"no space left for the journal {folder} ({error.strerror}). What was saved before is"
            " intact: free some space and run again"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return JournalError(
            f"the journal {folder} cannot be used: {place}: {error.strerror}. Make it readable and"
            " writable or set `journal_dir` to another folder"
        )
    return JournalError(
        f"the journal {folder} failed: {place}: {error.strerror}. Is its volume still there? What"
        " was saved before is intact: run again when it is back"
    )
