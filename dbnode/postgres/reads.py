"""Reads of one replica, over one connection: by id together, ranges one by one.

While a question is on its way, reads of single ids gather and then go as one: under load a round trip serves many. A
read sees everything committed before it was asked, since its question is sent after that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.changes import Page
from dbnode.paging import take_page
from dbnode.postgres.connection import ROWS_INLINE_MAX, Connection
from dbnode.postgres.statements import Statements, page_rows_max
from dbnode.store import RunInThread, StoreUnavailable
from dbnode.wire import Row

T = TypeVar("T")

#: Reads that may wait; the balancers' bounds are reached before.
WAITING_MAX = 10_000
#: Ids that one question asks for.
IDS_PER_QUESTION_MAX = 500


class Reads:
    """Answers reads; `reading` returns the connection to use, or raises StoreUnavailable."""

    def __init__(self, statements: Statements, reading: Callable[[], Connection], run_in_thread: RunInThread) -> None:
        self._statements = statements
        self._reading = reading
        self._run_in_thread = run_in_thread
        self._waiting: dict[int, list[Deferred[Page]]] = {}
        self._asking = False
        self._ranges = 0

    def scan(self, low: int, high: int, limit: int, bytes_max: int) -> Deferred[Page]:
        """See Store.scan; fails with StoreUnavailable at once if there is no connection, or too many wait."""
        self._reading()
        if len(self._waiting) + self._ranges >= WAITING_MAX:
            raise StoreUnavailable(f"{WAITING_MAX} reads wait for PostgreSQL")
        if low == high:
            return self._one(low)
        self._ranges += 1
        return Deferred.fromCoroutine(self._range(low, high, limit, bytes_max)).addBoth(self._range_answered)

    # ---- ranges -----------------------------------------------------------------------------------------------

    async def _range(self, low: int, high: int, limit: int, bytes_max: int) -> Page:
        statements = self._statements
        if not bytes_max:
            found = await self._reading().run(statements.range(low, high, limit))
            return await self._in_time(found, lambda: self._page(found, limit, 0))
        # Most ranges fit on a page, and whether they do is found out faster than where to cut them.
        found = await self._reading().run(statements.whole_page(low, high, limit, bytes_max))
        if found:
            return await self._in_time(found, lambda: self._page(found, page_rows_max(limit), bytes_max))
        cut = await self._reading().run(statements.cut_page(low, high, limit, bytes_max))
        return await self._in_time(cut, lambda: self._cut_page(cut, page_rows_max(limit), bytes_max))

    async def _in_time(self, found: list[tuple[Any, ...]], work: Callable[[], Page]) -> Page:
        return work() if len(found) <= ROWS_INLINE_MAX else await self._run_in_thread(work)

    def _range_answered(self, answer: T) -> T:
        self._ranges -= 1
        return answer

    def _page(self, found: list[tuple[Any, ...]], limit: int, bytes_max: int) -> Page:
        return take_page(iter(self._statements.columns.from_sql(found)), limit, bytes_max)

    def _cut_page(self, found: list[tuple[Any, ...]], limit: int, bytes_max: int) -> Page:
        rows = self._statements.columns.from_sql([values[:-1] for values in found])
        page = take_page(iter(rows), limit, bytes_max)
        if page.next is None and sum([values[-1] for values in found[:-1]]) >= bytes_max:
            # PostgreSQL measures a little otherwise: for it the page was full before the last row.
            return Page(page.rows[:-1], page.rows[-1][0])
        return page

    # ---- single ids -------------------------------------------------------------------------------------------

    def _one(self, id_: int) -> Deferred[Page]:
        answer: Deferred[Page] = Deferred()
        self._waiting.setdefault(id_, []).append(answer)
        if not self._asking:
            self._ask()
        return answer

    def _ask(self) -> None:
        ids = list(self._waiting)[:IDS_PER_QUESTION_MAX]
        asked = {id_: self._waiting.pop(id_) for id_ in ids}
        self._asking = True
        try:
            found = self._reading().run(self._statements.rows_by_id(ids))
        except StoreUnavailable:
            self._failed(Failure(), asked)
            return
        answered = found.addCallbacks(partial(self._answer, asked), self._failed, errbackArgs=(asked,))
        in_background(answered, "reading rows by id")

    def _answer(self, asked: dict[int, list[Deferred[Page]]], found: list[tuple[Any, ...]]) -> None:
        rows: dict[int, Row] = {row[0]: row for row in self._statements.columns.from_sql(found)}
        self._next()
        for id_, waiting in asked.items():
            row = rows.get(id_)
            for answer in waiting:
                answer.callback(Page([row] if row is not None else [], None))

    def _failed(self, failure: Failure, asked: dict[int, list[Deferred[Page]]]) -> None:
        self._next()
        for waiting in asked.values():
            for answer in waiting:
                answer.errback(failure)

    def _next(self) -> None:
        self._asking = False
        if self._waiting:
            self._ask()
