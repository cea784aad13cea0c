"""Two hundred simulated clusters, and what the simulator itself promises (see raftlog.testing.simulation)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from dbnode.testing import fuzz
from dbnode.testing.application import in_short, new_simulation, simulate

#: Run by every `make test`; `make fuzz` runs others.
SEEDS = range(200)

#: What must have happened in that many seeds, or they prove little.
HAPPENS = (
    "client: outcomes unknown",
    "client: restarted",
    "disk: bit flipped",
    "disk: damage found",
    "disk: failed",
    "disk: no space",
    "disk: power off in a write",
    "leader: asked to hand over",
    "log: Compacted",
    "log: SnapshotInstalled",
    "log: truncated",
    "log: written in turn",
    "membership: joint",
    "network: cut one way",
    "read: at a position",
    "read: told what is committed",
    "read: waited for a position",
    "read: waited for an entry to come",
    "refused: unknown_session",
    "replica: destroyed",
    "role: learner",
    "sent: Quiesce",
    "server: did not start",
    "server: killed",
    "server: lost its disk",
    "server: lost power",
    "server: paused",
    "server: said to have ended",
    "tour: found a position",
    "tour: found none",
)

_TRACE = """
import sys
from dbnode.testing.application import in_short, simulate
with in_short():
    simulate({seed}, lambda line: sys.stdout.write(line + "\\n"))
"""


class Simulations(SynchronousTestCase):
    def test_seeds(self) -> None:
        """No seed violates anything, and together they meet every kind of fault."""
        happened: Counter[str] = Counter()

        for seed in SEEDS:
            result = fuzz.run(seed)
            assert result.outcome is not None, f"{result.error}\npython -m dbnode.testing.fuzz --replay {seed}"
            happened.update(result.outcome.happened)

        self.assertEqual([what for what in HAPPENS if not happened[what]], [])
        self.assertEqual(happened["checker: undecided"], 0)


class Determinism(SynchronousTestCase):
    def trace(self, seed: int, hash_seed: str) -> str:
        """Return a digest of the trace of a seed, run in a process of its own."""
        command = [sys.executable, "-c", _TRACE.format(seed=seed)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        self.assertGreater(done.stdout.count(b"\n"), 1000)
        return hashlib.sha256(done.stdout).hexdigest()

    def test_same_trace(self) -> None:
        """A seed gives the same trace, byte for byte, in every process."""
        self.assertEqual(self.trace(11, "1"), self.trace(11, "2"))

    def test_other_seed(self) -> None:
        """Another seed gives another trace."""
        self.assertNotEqual(self.trace(11, "1"), self.trace(12, "1"))

    def test_tracing_changes_nothing(self) -> None:
        """A run that is traced is the run that is not."""
        lines: list[str] = []

        with in_short():
            plain = simulate(13)
            traced = simulate(13, lines.append)

        self.assertEqual(plain, traced)


class Timelines(SynchronousTestCase):
    def test_roles(self) -> None:
        """The timeline has a row for every server, and a leader in it."""
        with in_short():
            simulation = new_simulation(14)
            simulation.run()

        text = simulation.timeline.text()
        self.assertEqual([line[4] for line in text.splitlines()[2:7]], ["A", "B", "C", "D", "E"])
        self.assertIn("LLLL", text)


class Fuzzing(SynchronousTestCase):
    def setUp(self) -> None:
        """Take down what is printed."""
        self.lines: list[str] = []
        self.patch(fuzz, "say", self.lines.append)

    def test_success(self) -> None:
        """Seeds without a violation are counted, and how fast they were is said."""
        self.assertEqual(fuzz.main(["2", "--first", "300", "--processes", "1"]), 0)

        self.assertIn("simulated seconds per second", self.lines[-2])
        self.assertIn("2 seeds (300 to 301) without a violation", self.lines[-1])

    def test_replay(self) -> None:
        """A replay tells who sent what, who became what, and ends with the timeline."""
        self.assertEqual(fuzz.main(["--replay", "300"]), 0)

        trace = "\n".join(self.lines)
        self.assertRegex(trace, r"A -> B GroupMessage")
        self.assertRegex(trace, r"replica \d is leader in term \d")
        self.assertIn("x down", self.lines[-1])
