"""The checker of histories: small ones by hand, and those that others judged before."""

from __future__ import annotations

import os
import re
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from raftlog.testing.linearizability import ABSENT, NEVER, Kind, Operation, Verdict, check, check_key

ROOT = Path(__file__).resolve().parents[2]
TESTDATA = Path(os.environ.get("SHARDLB_TESTDATA", ROOT.parent / "shared" / "testdata")) / "histories"


def op(kind: Kind, argument: object, result: object, invoked: float, returned: float) -> Operation:
    """Return an operation of known outcome."""
    return Operation(kind, argument, result, invoked, returned)


def unknown(kind: Kind, argument: object, invoked: float) -> Operation:
    """Return an operation of unknown outcome."""
    return Operation(kind, argument, None, invoked, NEVER, known=False)


class SmallHistoryTests(SynchronousTestCase):
    def assertVerdict(self, verdict: Verdict, *operations: Operation) -> None:
        """Check operations on a key that does not exist at first."""
        self.assertIs(check_key(operations), verdict)

    def test_nothing_happened(self) -> None:
        """An empty history is linearizable."""
        self.assertVerdict(Verdict.LINEARIZABLE)

    def test_stale_read(self) -> None:
        """A read that began after a write returned must see it."""
        write = op(Kind.WRITE, 1, None, 0, 1)

        self.assertVerdict(Verdict.LINEARIZABLE, write, op(Kind.READ, None, 1, 2, 3))
        self.assertVerdict(Verdict.NOT_LINEARIZABLE, write, op(Kind.READ, None, ABSENT, 2, 3))

    def test_concurrent_read_may_see_either(self) -> None:
        """A read that overlaps a write may see the value before or after it."""
        write = op(Kind.WRITE, 1, None, 0, 10)

        self.assertVerdict(Verdict.LINEARIZABLE, write, op(Kind.READ, None, ABSENT, 1, 2))
        self.assertVerdict(Verdict.LINEARIZABLE, write, op(Kind.READ, None, 1, 1, 2))

    def test_reads_do_not_go_back(self) -> None:
        """Once a read saw the new value no later read sees the old one, even while the write runs."""
        write = op(Kind.WRITE, 1, None, 0, 10)
        new, old = op(Kind.READ, None, 1, 1, 2), op(Kind.READ, None, ABSENT, 3, 4)

        self.assertVerdict(Verdict.NOT_LINEARIZABLE, write, new, old)

    def test_unknown_write_may_appear_late_or_never(self) -> None:
        """An unknown outcome explains both values, but not a value that comes and goes."""
        write = unknown(Kind.WRITE, 1, 0)
        absent, present = op(Kind.READ, None, ABSENT, 5, 6), op(Kind.READ, None, 1, 7, 8)
        gone = op(Kind.READ, None, ABSENT, 9, 10)

        self.assertVerdict(Verdict.LINEARIZABLE, write, absent)
        self.assertVerdict(Verdict.LINEARIZABLE, write, absent, present)
        self.assertVerdict(Verdict.NOT_LINEARIZABLE, write, absent, present, gone)

    def test_conditions(self) -> None:
        """Insert, update, delete and compare-and-set succeed exactly when their condition holds."""
        insert, again = op(Kind.INSERT, 1, True, 0, 1), op(Kind.INSERT, 2, False, 2, 3)
        update, swap = op(Kind.UPDATE, 3, True, 4, 5), op(Kind.COMPARE_AND_SET, (3, 4), True, 6, 7)
        delete, nothing = op(Kind.DELETE, None, True, 8, 9), op(Kind.DELETE, None, False, 10, 11)

        self.assertVerdict(Verdict.LINEARIZABLE, insert, again, update, swap, delete, nothing)
        self.assertVerdict(Verdict.NOT_LINEARIZABLE, insert, op(Kind.INSERT, 2, True, 2, 3))
        self.assertVerdict(Verdict.NOT_LINEARIZABLE, op(Kind.UPDATE, 1, True, 0, 1))
        self.assertVerdict(Verdict.NOT_LINEARIZABLE, insert, op(Kind.COMPARE_AND_SET, (2, 3), True, 2, 3))

    def test_double_application(self) -> None:
        """A delete that was applied twice shows: one insert can't be deleted by two."""
        insert = op(Kind.INSERT, 1, True, 0, 1)

        self.assertVerdict(
            Verdict.NOT_LINEARIZABLE, insert, op(Kind.DELETE, None, True, 2, 5), op(Kind.DELETE, None, True, 3, 6)
        )

    def test_out_of_steps_is_not_a_pass(self) -> None:
        """A search that may not go on says that it does not know."""
        history = [op(Kind.WRITE, n, None, 0, 100) for n in range(8)]

        self.assertIs(check_key(history, steps_max=3), Verdict.UNKNOWN)

    def test_keys_are_independent(self) -> None:
        """Only the keys that are wrong are named."""
        history = [("a", op(Kind.WRITE, 1, None, 0, 1)), ("b", op(Kind.READ, None, 1, 2, 3))]

        self.assertEqual(check(history), {"b": Verdict.NOT_LINEARIZABLE})


_LINE = re.compile(r"jepsen\.util - (\S+)\s+:(invoke|ok|fail|info)\s+:(read|write|cas)\s+(.*)")


def parse(text: str) -> list[Operation]:
    """Return the operations of a register's history; the number of a line is its time."""
    open_: dict[str, tuple[str, str, int]] = {}
    operations = []
    for time, line in enumerate(text.splitlines()):
        found = _LINE.search(line)
        if found is None:
            continue
        client, event, kind, value = found.groups()
        if event == "invoke":
            open_[client] = (kind, value, time)
        elif event != "info":
            operations.append(_operation(*open_.pop(client), event, value, time))
    operations += [_operation(kind, value, invoked, "info", "", 0) for kind, value, invoked in open_.values()]
    return operations


def _operation(kind: str, argument: str, invoked: int, event: str, value: str, returned: int) -> Operation:
    if kind == "read":
        return Operation(Kind.READ, None, value.strip(), invoked, returned, known=event == "ok")
    if kind == "write":
        return Operation(Kind.WRITE, argument.strip(), None, invoked, returned, known=event == "ok")
    expected, new = argument.strip("[] ").split()
    ok = event == "ok"
    return Operation(Kind.COMPARE_AND_SET, (expected, new), ok, invoked, returned, known=event in ("ok", "fail"))


class CorpusTests(SynchronousTestCase):
    def test_verdicts(self) -> None:
        """The checker agrees with others' verdicts on their histories."""
        if not TESTDATA.is_dir():
            raise SkipTest(f"no histories: {TESTDATA} does not exist (SHARDLB_TESTDATA)")
        expected = dict(line.split() for line in (TESTDATA / "VERDICTS").read_text().splitlines() if line.strip())

        found = {name: check_key(parse((TESTDATA / name).read_text()), "nil").value for name in expected}

        self.assertEqual(found, expected)
        self.assertGreater(len(found), 50)
