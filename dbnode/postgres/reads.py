"""Reads of one replica, over one connection: by id together, ranges one by one.

While a question is on its way, reads of single ids gather and then go as one: under load a round trip serves many. A
read sees everything committed before it was asked, since its question is sent after that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dbnode.background import in_background
from dbnode.changes import Page
from dbnode.paging import take_page
from dbnode.postgres.connection import ROWS_INLINE_MAX, Connection
from dbnode.postgres.statements import Statements, page_rows_max
from dbnode.store import RunInThread, StoreUnavailable
from dbnode.wire import Row

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
        asked = self._reading().run(self._statements.page(low, high, limit, bytes_max))
        return asked.addBoth(self._range_answered).addCallback(self._page, limit, bytes_max)

    # ---- ranges -----------------------------------------------------------------------------------------------

    def _range_answered(self, answer: list[tuple[Any, ...]] | Failure) -> list[tuple[Any, ...]] | Failure:
        self._ranges -= 1
        return answer

    def _page(self, found: list[tuple[Any, ...]], limit: int, bytes_max: int) -> Page | Deferred[Page]:
        if len(found) <= ROWS_INLINE_MAX:
            return self._cut(found, limit, bytes_max)
        return self._run_in_thread(lambda: self._cut(found, limit, bytes_max))

    def _cut(self, found: list[tuple[Any, ...]], limit: int, bytes_max: int) -> Page:
        if not bytes_max:
            return take_page(iter(self._statements.columns.from_sql(found)), limit, 0)
        rows = self._statements.columns.from_sql([values[:-1] for values in found])
        page = take_page(iter(rows), page_rows_max(limit), bytes_max)
        if page.next is None and found and found[0][-1] > len(found):
            # PostgreSQL measures a little otherwise: it thinks the page is full.
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
