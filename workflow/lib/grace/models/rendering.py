"""Chat templates rendered in a process of their own: they come with models, and need not end.

transformers' sandbox keeps a template from running code, but bounds neither its time nor its
memory. Here each prompt has `MOST_SECONDS` of computing, which the kernel counts, so that a busy
machine shortens nothing, and `MOST_MEMORY`. A template that asks for today's date gets
`TEMPLATE_DATE`: the same run has the same prompts tomorrow.
"""

from __future__ import annotations

import atexit
import json
import math
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Any

import psutil

from grace.source_code import LIBRARY

#: What `strftime_now` tells: the date that Llama's templates write where they are given none.
TEMPLATE_DATE = date(2024, 7, 26)
#: The name under which templates ask for today's date.
CLOCK = "strftime_now"
#: Seconds of computing for one prompt, where a few milliseconds are usual, and bytes.
MOST_SECONDS, MOST_MEMORY = 5, 2 * 2**30

_MAIN = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from grace.models.rendering import main; main()"
)


class RenderingError(Exception):
    """The template raised an error; the text is the template's or Jinja2's."""


class EndlessError(RenderingError):
    """The template took more time than any prompt needs, or ended the process that renders it."""


class _Renderer:
    """The process, started at the first prompt and again after one that ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._asked = 0

    def render(
        self, template: str, messages: Sequence[Mapping[str, str]], names: Mapping[str, Any],
        most: int,
    ) -> str:  # fmt: skip
        """The text of a chat; `names` are special tokens by the names that templates have for them.

        Raises `RenderingError`, for more than `most` characters, too.
        """
        with self._lock:
            self._asked += 1
            chat = {
                "id": self._asked,
                "template": template,
                "messages": list(messages),
                "names": dict(names),
                "most": most,
                "seconds": MOST_SECONDS,
            }
            answer = self._ask(json.dumps(chat, default=str))
        found = json.loads(answer)
        if found["id"] != chat["id"]:
            raise RuntimeError("a chat template's process answered another prompt")
        if "error" in found:
            raise RenderingError(found["error"])
        return str(found["text"])

    def _ask(self, line: str) -> str:
        process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        except BaseException:  # its answer would be taken for the next one's
            process.kill()
            self._close()
            raise
        if not answer.endswith("\n"):
            status = self._close()
            if status == -signal.SIGXCPU:
                raise EndlessError(f"it takes more than {MOST_SECONDS} s of computing for one")
            raise EndlessError(f"it ended the process that renders it, with status {status}")
        return answer

    def _started(self) -> subprocess.Popen[str]:
        # One thread for numpy, whose others would count as memory; UTC for the date.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN, str(LIBRARY.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env={**environment, "TZ": "UTC"},
        )
        return self._process

    def _close(self) -> int | None:
        """End the process; its exit status, None where there is none."""
        process, self._process = self._process, None
        if process is None:
            return None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        return process.wait()

    def close(self) -> None:
        """End the process, which the next prompt starts again."""
        with self._lock:
            self._close()


_RENDERER = _Renderer()
atexit.register(_RENDERER.close)
render = _RENDERER.render


class _PinnedDatetime(datetime):
    """`datetime` as of `TEMPLATE_DATE`."""

    @classmethod
    def now(cls, tz: Any = None) -> _PinnedDatetime:
        return cls(TEMPLATE_DATE.year, TEMPLATE_DATE.month, TEMPLATE_DATE.day, tzinfo=tz)


def main() -> None:
    """Render the chats that come as lines of JSON on standard input, until it ends."""
    from transformers.utils import chat_template_utils

    module: Any = chat_template_utils
    module.datetime = _PinnedDatetime
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends, and so does the input
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer
    _limit(resource.RLIMIT_CORE, 0)
    # Beyond what its libraries take, which differs between machines.
    _limit(resource.RLIMIT_AS, psutil.Process().memory_info().vms + MOST_MEMORY)
    for line in sys.stdin:
        chat = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + chat["seconds"])
        answers.write(f"{json.dumps({'id': chat['id'], **_rendered(module, chat)})}\n")
        answers.flush()


def _limit(what: int, most: int) -> None:
    """Lower a limit of this process, so that it can be raised again as far as it was."""
    _, hard = resource.getrlimit(what)
    with suppress(ValueError, OSError):  # not every system has every limit
        resource.setrlimit(what, (most if hard < 0 else min(most, hard), hard))


def _rendered(module: Any, chat: dict[str, Any]) -> dict[str, str]:
    """The `text` of a chat, or the `error`."""
    try:
        texts, _ = module.render_jinja_template(
            conversations=[chat["messages"]],
            chat_template=chat["template"],
            add_generation_prompt=True,
            **chat["names"],
        )
    except MemoryError:
        return {"error": f"it takes more than {MOST_MEMORY // 2**30} GiB of memory"}
    except Exception as error:  # it comes with the model and may raise anything
        return {"error": str(error) or type(error).__name__}
    asked = sum(len(message["content"]) for message in chat["messages"])
    if len(texts[0]) > asked + chat["most"]:
        return {"error": f"it gives {len(texts[0]):,} characters for a question of {asked:,}"}
    return {"text": texts[0]}
