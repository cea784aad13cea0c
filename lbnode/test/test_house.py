"""The house's arrows: which package may import which, read from the sources themselves (DESIGN §2)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]

#: The pure half of raftlog: what decides, and may not know of time, chance, threads or a network.
CORE = (
    "messages",
    "quorum",
    "confchange",
    "progress",
    "tracker",
    "log",
    "storage",
    "readonly",
    "core",
    "rawnode",
)
OUTSIDE_WORLD = {"twisted", "socket", "time", "os", "threading", "select", "asyncio", "subprocess", "datetime"}
#: What lbnode may know of dbnode: the published half.
PUBLISHED = ("dbnode.client", "dbnode.wire", "dbnode.errors", "dbnode.jsonhttp", "dbnode.schema")


def sources(package: str, *, tests: bool = False) -> Iterator[Path]:
    """Yield a package's modules, without its tests unless asked for."""
    for path in sorted((ROOT / package).rglob("*.py")):
        if tests or "test" not in path.relative_to(ROOT).parts:
            yield path


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports, wherever the statement stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def under(name: str, packages: tuple[str, ...]) -> bool:
    """Return whether a dotted name is one of the packages or inside one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


class ArrowTests(SynchronousTestCase):
    def assertImportsNothingOf(self, paths: Iterator[Path], forbidden: tuple[str, ...]) -> None:
        """No module among `paths` imports from the forbidden packages; there are modules to look at."""
        seen = list(paths)
        offences = {
            f"{path.relative_to(ROOT)}: {name}" for path in seen for name in imports(path) if under(name, forbidden)
        }
        self.assertTrue(seen)
        self.assertEqual(offences, set())

    def test_raftlog_knows_nobody(self) -> None:
        """Consensus stands alone."""
        self.assertImportsNothingOf(sources("raftlog"), ("dbnode", "lbnode", "benchmarks"))

    def test_dbnode_does_not_know_the_balancer(self) -> None:
        """A server owns its protocol and never asks who speaks it."""
        self.assertImportsNothingOf(sources("dbnode"), ("lbnode", "benchmarks"))

    def test_nothing_imports_lbnode(self) -> None:
        """The balancer is the top of the house, for tests of the other packages too."""
        for package in ("raftlog", "dbnode"):
            self.assertImportsNothingOf(sources(package, tests=True), ("lbnode",))

    def test_lbnode_talks_to_servers_through_what_they_publish(self) -> None:
        """Outside the in-memory launcher, which hosts servers for tests, nothing of a server's inside is imported."""
        for path in sources("lbnode"):
            if path.name == "memory.py":
                continue
            inside = {n for n in imports(path) if under(n, ("dbnode",)) and n != "dbnode" and not under(n, PUBLISHED)}
            self.assertEqual(inside, set(), path)

    def test_only_their_launcher_knows_containers(self) -> None:
        """The Docker SDK blocks, so nobody imports it but the modules whose callers know that."""
        for path in (path for package in ("raftlog", "dbnode", "lbnode") for path in sources(package)):
            if not path.match("lbnode/launchers/docker*.py"):
                self.assertNotIn("docker", {name.split(".")[0] for name in imports(path)}, path)

    def test_core_is_pure(self) -> None:
        """The core imports neither Twisted nor anything that reads a clock, a socket, a thread or a file."""
        for name in CORE:
            found = sorted((ROOT / "raftlog").glob(f"{name}*.py"))
            for path in found:
                roots = {n.split(".")[0] for n in imports(path)}
                self.assertEqual(roots & OUTSIDE_WORLD, set(), path)

    def test_plugin_imports_nothing_of_ours(self) -> None:
        """Importing klein installs a reactor, so the plugin names its modules as strings."""
        names = imports(ROOT / "twisted" / "plugins" / "shardlb_plugin.py")

        self.assertEqual([n for n in names if under(n, ("lbnode", "dbnode", "raftlog"))], [])

    def test_namespace_packages_of_twisted_have_no_init(self) -> None:
        """An __init__.py in twisted/ or twisted/plugins/ would hide Twisted itself."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])
