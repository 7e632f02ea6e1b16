"""Writers of a journal in processes of their own.

python journal_writers.py FOLDER endless         prints each key once it is on disk, for ever
python journal_writers.py FOLDER limited BYTES   the same, with files limited in size
python journal_writers.py FOLDER many N          forks N writers; ends when all have
"""

import hashlib
import itertools
import os
import resource
import sys
from pathlib import Path

from grace.errors import JournalError
from grace.journal import Journal


def key_of(name: object) -> str:
    return hashlib.sha256(repr(name).encode()).hexdigest()


def value_of(key: str) -> dict[str, object]:
    """An answer of a length of its own, so that commits end anywhere in a disk's sectors."""
    return {"answer": key * (int(key[0], 16) % 4 + 1), "logprob": -int(key[:6], 16) / 1e6}


def endless(folder: Path) -> None:
    with Journal(folder) as journal:
        for number in itertools.count():
            key = key_of((os.getpid(), number))
            journal.add(key, value_of(key))
            # Some commits hold several answers.
            if number % 5 != 4:
                journal.flush()
                print(key, flush=True)


def many(folder: Path, count: int) -> int:
    for writer in range(count):
        if os.fork() == 0:
            try:
                with Journal(folder) as journal:
                    for number in range(10):
                        for key in (key_of((writer, number)), key_of(("shared", number))):
                            journal.add(key, value_of(key))
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(1)
    return sum(os.waitpid(-1, 0)[1] != 0 for _ in range(count))


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if sys.argv[2] == "many":
        sys.exit(many(place, int(sys.argv[3])))
    if sys.argv[2] == "limited":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    try:
        endless(place)
    except JournalError as error:
        sys.exit(str(error))
