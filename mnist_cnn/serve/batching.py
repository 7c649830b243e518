"""Questions that come while others are computed are the next batch.

A net computes 64 images in the time of some ten single ones. So nothing waits for a batch to fill:
when nothing is being computed, what there is is taken, be it one question.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Batches(Generic[Q, A]):
    """Asks a function many questions at a time, in a thread of its own.

    A single question is answered in the event loop: a thread's answer would come a millisecond
    later, and nobody else is waiting. To be used from one event loop.

    Args:
        answer: From questions to as many answers, in their order.
        max_size: The most questions at a time.
        wait: Seconds to wait for more when there is one.
    """

    def __init__(
        self, answer: Callable[[list[Q]], list[A]], max_size: int = 64, wait: float = 0.0
    ) -> None:
        self.answer = answer
        self.max_size = max_size
        self.wait = wait
        self._waiting: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compute")
        self._working: asyncio.Task[None] | None = None

    async def ask(self, question: Q) -> A:
        """The answer to a question; what `answer` raises, for each question of its batch.

        A question whose asker is cancelled is not computed any more.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[A] = loop.create_future()
        self._waiting.append((question, future))
        if self._working is None:
            self._working = loop.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                if self.wait and len(self._waiting) < self.max_size:
                    await asyncio.sleep(self.wait)
                if batch := self._next():
                    questions, futures = map(list, zip(*batch, strict=True))
                    try:
                        if len(questions) > 1:
                            answers = await loop.run_in_executor(
                                self._thread, self.answer, questions
                            )
                        else:
                            answers = self.answer(questions)
                    except Exception as error:
                        for future in futures:
                            if not future.done():
                                future.set_exception(error)
                        continue
                    for future, found in zip(futures, answers, strict=True):
                        if not future.done():
                            future.set_result(found)
        finally:
            self._working = None

    def _next(self) -> list[tuple[Q, asyncio.Future[A]]]:
        batch: list[tuple[Q, asyncio.Future[A]]] = []
        while self._waiting and len(batch) < self.max_size:
            question, future = self._waiting.popleft()
            if not future.done():  # its asker has not left
                batch.append((question, future))
        return batch
