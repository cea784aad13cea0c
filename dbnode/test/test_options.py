"""Options from the command line and the environment."""

from __future__ import annotations

from pathlib import Path

from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from dbnode.options import ServerOptions, ServerSettings

SCHEMA = '{"columns":["id","name"],"dtypes":["Number","String"]}'


def settings(*arguments: str, **environment: str) -> ServerSettings:
    """Return the settings that arguments and environment mean."""
    options = ServerOptions({"SHARDLB_DATA_DIR": "/data", **environment})
    options.parseOptions(list(arguments))
    return options.settings


class OptionsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """A data directory is enough."""
        found = settings()

        self.assertEqual(found.data_dir, Path("/data"))
        self.assertEqual((found.name, found.http, found.link, found.cluster_id), (None, None, None, None))
        self.assertEqual((found.deadline_seconds, found.limits.body_bytes_max), (10.0, 16 << 20))

    def test_data_directory_is_needed(self) -> None:
        """Without one there is nothing to start."""
        self.assertRaises(UsageError, ServerOptions({}).parseOptions, [])

    def test_every_option_has_its_variable(self) -> None:
        """SHARDLB_<OPTION> means what --option means, and the command line wins."""
        values = {
            "name": ("Server1", "Server2"),
            "id": ("1", "2"),
            "cluster-id": ("c", "d"),
            "secret-file": ("/a", "/b"),
            "tls-dir": ("/certificates", "off"),
            "http": ("tcp:1", "tcp:2"),
            "link": ("tcp:3", "tcp:4"),
            "schema": (SCHEMA, SCHEMA.replace("name", "title")),
            "storage": ("postgres", "postgresql://db/x"),
            "postgres-programs": ("/p", "/q"),
            "deadline": ("1", "2"),
            "body-bytes-max": ("1000", "2000"),
            "connections-max": ("10", "20"),
            "receiving-bytes-max": ("20000000", "30000000"),
            "data-dir": ("/x", "/y"),
        }
        for option, (first, second) in values.items():
            variable = "SHARDLB_" + option.upper().replace("-", "_")

            by_argument = settings(f"--{option}", first)
            by_variable = settings(**{variable: first})
            both = settings(f"--{option}", second, **{variable: first})

            self.assertEqual(by_argument, by_variable, option)
            self.assertNotEqual(by_argument, settings(), option)
            self.assertEqual(both, settings(f"--{option}", second), option)

    def test_course_names(self) -> None:
        """The names of the course's projects work, and ours win over them."""
        self.assertEqual(settings(SERVER_NAME="Server7").name, "Server7")
        self.assertEqual((settings(SERVER_ID="7").name, settings(SERVER_ID="7").server_id), ("7", "7"))
        self.assertEqual(settings(SERVER_NAME="Server7", SHARDLB_NAME="Server8").name, "Server8")
        self.assertEqual(settings(SERVER_SCHEMA=SCHEMA).schema, settings("--schema", SCHEMA).schema)
        self.assertEqual(settings(DATABASE_URL="postgres://db/x").storage, "postgres://db/x")
        self.assertEqual(settings(PORT="5000").http, "tcp:5000:interface=127.0.0.1")

    def test_port_of_the_balancer_is_not_its_servers(self) -> None:
        """A server of a cluster does not take PORT, which it may have inherited."""
        self.assertIsNone(settings("--cluster-id", "c", PORT="5000").http)

    def test_others_must_reach_it(self) -> None:
        """A socket of the file system is refused: what goes into the directory of servers is host and port."""
        self.assertRaises(UsageError, settings, "--link", "unix:/run/link")

    def test_storage_in_a_file(self) -> None:
        """A DSN with a password need not be seen on the command line; what is given there wins."""
        path = Path(self.mktemp())
        path.write_text("postgresql://me:secret@db/x\n")

        self.assertEqual(settings("--storage-file", str(path)).storage, "postgresql://me:secret@db/x")
        self.assertEqual(settings("--storage-file", str(path), "--storage", "sqlite").storage, "sqlite")
        self.assertRaises(UsageError, settings, "--storage-file", "/nowhere/at/all")

    def test_ports_are_endpoints_on_the_loopback(self) -> None:
        """A bare number is a port of this machine; anything else is an endpoint as it stands."""
        self.assertEqual(settings("--http", "5000").http, "tcp:5000:interface=127.0.0.1")
        self.assertEqual(settings("--http", r"tcp6:5000:interface=\:\:1").http, r"tcp6:5000:interface=\:\:1")

    def test_wrong_values_name_the_option(self) -> None:
        """A value that cannot be meant is refused with the option or variable it came from."""
        for option, value in (
            ("--http", "70000"),
            ("--deadline", "0"),
            ("--deadline", "x"),
            ("--body-bytes-max", "0"),
            ("--body-bytes-max", "100000000"),
            ("--storage", "mysql"),
            ("--schema", "{"),
            ("--schema", "{}"),
        ):
            self.assertRaises(UsageError, settings, option, value)
        self.assertIn("SHARDLB_DEADLINE=x", str(self.assertRaises(UsageError, settings, SHARDLB_DEADLINE="x")))
        self.assertIn("PORT=70000", str(self.assertRaises(UsageError, settings, PORT="70000")))
