"""Tests of benchmarks.chaos.places and enter. Those with network namespaces need root, else they are skipped."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from benchmarks.chaos.enter import place_of
from benchmarks.chaos.places import Places
from raftlog.testing.namespaces import NamespacesUnavailable

#: Passes for a server: says where it was told to listen and which address it has.
_SERVER = "import os; print(os.environ['SHARDLB_HTTP'], os.environ['SHARDLB_LINK'], os.readlink('/proc/self/ns/net'))"


class EnteringTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Have two places."""
        self.directory = Path(self.mktemp())
        self.directory.mkdir()
        (self.directory / "places.json").write_text(
            json.dumps([["one", ["in1"], "198.18.0.6"], ["two", ["in2"], "198.18.0.10"]])
        )

    def test_each_server_has_its_place(self) -> None:
        """A new server takes the first free place, and has the same one again after a restart."""
        places = [place_of(str(self.directory), name)[0] for name in ("A", "B", "A", "B")]

        self.assertEqual(places, [["in1"], ["in2"], ["in1"], ["in2"]])

    def test_no_place_left(self) -> None:
        """One server too many does not start, and says why."""
        for name in ("A", "B"):
            place_of(str(self.directory), name)

        said = self.assertRaises(SystemExit, place_of, str(self.directory), "C")

        self.assertIn("all 2 places are taken", str(said))


class PlacesTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make places."""
        self.directory = Path(self.mktemp()).absolute()
        self.places = Places(self.directory / "places")
        try:
            self.places.open()
        except NamespacesUnavailable as reason:
            raise SkipTest(str(reason)) from reason
        self.addCleanup(self.places.close)

    def start(self, name: str) -> list[str]:
        """Run what passes for a server through the wrapper; return what it says."""
        home = self.directory / name
        command = [sys.executable, "-c", _SERVER, "--name", name, "--data-dir", str(home)]
        started = [*shlex.split(self.places.wrapper), *command]
        return subprocess.run(started, capture_output=True, text=True, check=True).stdout.split()

    def test_servers_are_apart(self) -> None:
        """Each runs in a namespace of its own and listens at its address, at the ports it had before."""
        (http, link, first), (*_, second) = self.start("A"), self.start("B")
        port, address = http.split(":")[1], http.split("=")[1]
        (self.directory / "A").mkdir()
        known = {"http": {"host": address, "port": 5007}, "link": {"host": "127.0.0.1", "port": 5008}}
        (self.directory / "A" / "endpoints.json").write_text(json.dumps(known))

        again = self.start("A")

        self.assertEqual((port, http), ("0", link))
        self.assertNotEqual(first, second)
        self.assertEqual(again, [f"tcp:5007:interface={address}", f"tcp:0:interface={address}", first])
        self.places.cut([address], hear=True)
        self.places.cut([address])
        self.places.heal()
