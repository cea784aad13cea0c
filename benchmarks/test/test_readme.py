"""Executes the README's examples against a real cluster, so that they stay true."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase, TestCase

from benchmarks.spawn import Cluster
from benchmarks.test.examples import Example, examples
from benchmarks.workloads import A_1

README = Path(__file__).parents[2] / "README.md"
#: The address that the README uses.
ADDRESS = "127.0.0.1:5000"


class Reading(SynchronousTestCase):
    def test_examples_of_a_text(self) -> None:
        """Commands and their outputs are taken from console blocks, and from nowhere else."""
        text = "$ no\n```console\n$ one\n1\n$ two\n2\n2\n```\n```sh\n$ no\n```\n```console\n$ three\n```\n"

        self.assertEqual(list(examples(text)), [Example("one", "1"), Example("two", "2\n2"), Example("three", "")])

    def test_matching(self) -> None:
        """An output must be the same text; an ellipsis stands for any."""
        example = Example("", '{"a":…,"b":[1.0]}')

        found = [example.matches(text) for text in ('{"a":7,"b":[1.0]}\n', '{"a":,"b":[1.0]}', '{"a":7,"b":[1x0]}')]

        self.assertEqual(found, [True, True, False])


class Readme(TestCase):
    timeout = 180

    def setUp(self) -> None:
        """Make a cluster, stopped when the test ends."""
        from twisted.internet import reactor

        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        self.cluster = Cluster(reactor, directory)
        self.addCleanup(lambda: self.cluster.stop())

    async def test_examples(self) -> None:
        """Every example of the README prints what the README says."""
        if shutil.which("curl") is None:
            raise SkipTest("the README's examples need curl")
        await self.cluster.start(A_1)

        for example in examples(README.read_text()):
            command = example.command.replace(ADDRESS, self.cluster.door.host)
            printed = output_of(command)

            self.assertTrue(example.matches(printed), f"{command}\nexpected {example.output}\ngot {printed}")


def output_of(command: str) -> str:
    """Run a command line in a shell, which may block this process: the cluster does not need it."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    return done.stdout
