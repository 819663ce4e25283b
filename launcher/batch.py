"""Work on many tasks at a time with flat memory: tasks are read as there is room. Imported by the launcher only."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_TICK = 0.2  # seconds between two looks at the clock, and between two chances for a signal on Windows


@dataclass(frozen=True, kw_only=True)
class Limits:
    """`threads` tasks are worked on at a time; `window` tasks are known between reading and the result's use."""

    threads: int
    window: int
    ordered: bool = True


@dataclass(frozen=True)
class _Done(Generic[Result]):
    """A result, or what ended the work or the reading."""

    number: int
    result: Result | None = None
    error: BaseException | None = None


def concurrently(
    tasks: Iterable[Task], work: Callable[[Task], Result], limits: Limits, tick: Callable[[], None]
) -> Iterator[Result]:
    """The results of `work` on each task, in the order of the tasks or (not `ordered`) as they are done.

    `tasks` is read on a thread of its own, so that results come while its next item is not there yet. A task that
    raises ends everything: the error is raised here. `tick` is called a few times a second while nothing happens.
    Abandoned (an exception, a signal), the threads are left to end with the process.
    """
    todo: queue.SimpleQueue[tuple[int, Task] | None] = queue.SimpleQueue()
    done: queue.Queue[_Done[Result] | int] = queue.Queue()
    room = threading.Semaphore(limits.window)

    def read() -> None:
        number = 0
        try:
            for task in tasks:
                room.acquire()
                todo.put((number, task))
                number += 1
        except BaseException as error:
            done.put(_Done(number, error=error))
        else:
            done.put(number)

    def serve() -> None:
        while (item := todo.get()) is not None:
            number, task = item
            try:
                done.put(_Done(number, result=work(task)))
            except BaseException as error:
                done.put(_Done(number, error=error))

    for target in (read, *[serve] * limits.threads):
        threading.Thread(target=target, daemon=True).start()
    for result in _collect(done, ordered=limits.ordered, tick=tick):
        yield result
        room.release()
    for _ in range(limits.threads):
        todo.put(None)


def _collect(done: "queue.Queue[_Done[Result] | int]", *, ordered: bool, tick: Callable[[], None]) -> Iterator[Result]:
    """Results as they come, or put into order, until all that were read have come."""
    waiting: dict[int, Result] = {}
    given, total = 0, -1
    while given != total:
        try:
            item = done.get(timeout=_TICK)
        except queue.Empty:
            tick()
            continue
        if isinstance(item, int):
            total = item
            continue
        if item.error is not None:
            raise item.error
        waiting[item.number if ordered else given] = item.result  # type: ignore[assignment]
        while given in waiting:
            yield waiting.pop(given)
            given += 1
