"""From requests to results through an event loop in a thread of its own.

Callers iterate as over any iterator, while the loop keeps a bounded number of requests in flight,
also while the caller is busy with the last result.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Anything = TypeVar("Anything")


class BackgroundEventLoop:
    """An event loop in a thread; `close` ends it."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="grace-requests", daemon=True
        )
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Anything]) -> Anything:
        """Run one coroutine in the loop and wait for what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def map(
        self,
        ask: Callable[[Item], Awaitable[Iterable[Result]]],
        items: Iterable[Item],
        concurrency: int,
    ) -> Iterator[Result]:
        """Yield the results of `ask` for every item as they come, in any order.

        At most `concurrency` items are being asked; when one is done the next is taken from
        `items`, which the loop's thread reads. What `ask` or `items` raises ends the iteration
        and cancels the rest, as does leaving it early.
        """
        results: queue.SimpleQueue[tuple[Result | None, BaseException | None] | None]
        results = queue.SimpleQueue()
        source = iter(items)

        async def worker() -> None:
            for item in source:
                for result in await ask(item):
                    results.put((result, None))

        async def all_workers() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(concurrency):
                        group.create_task(worker())
            except BaseExceptionGroup as group_error:
                results.put((None, group_error.exceptions[0]))
            finally:
                results.put(None)

        future = asyncio.run_coroutine_threadsafe(all_workers(), self._loop)
        try:
            while (entry := results.get()) is not None:
                result, error = entry
                if error is not None:
                    raise error
                yield result  # type: ignore[misc]  # a result may be anything, None included
        finally:
            future.cancel()

    def close(self) -> None:
        """Cancel what is in flight and end the thread."""
        if self._loop.is_closed():
            return
        self.run(_cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_all() -> None:
    own = asyncio.current_task()
    others = [task for task in asyncio.all_tasks() if task is not own]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
