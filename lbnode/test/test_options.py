"""The balancer's options: from the command line, from the environment, and under the course's names."""

from __future__ import annotations

from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from dbnode.jsonhttp import encode
from dbnode.wire import Endpoint
from lbnode import roles
from lbnode.default_table import default_table
from lbnode.options import BalancerOptions
from lbnode.wire import InitLimits, parse_init

#: Every option: its default, a text, the value of that text.
OPTIONS = {
    "port": ("tcp:5000:interface=127.0.0.1", "8000", "tcp:8000:interface=127.0.0.1"),
    "lane": ("lean", "klein", "klein"),
    "data-dir": ("data", "/srv/table", "/srv/table"),
    "tls-dir": (None, "/srv/certificates", Path("/srv/certificates")),
    "workers": (0, "2", 2),
    "auto-init": (None, "default", "default"),
    "server-number": (None, "4", 4),
    "servers-dir": (None, "/srv/servers", Path("/srv/servers")),
    "launcher": ("process", "docker", "docker"),
    "server-image": ("shardlb-server", "mine", "mine"),
    "network": ("", "net1", "net1"),
    "project": ("shardlb", "two", "two"),
    "server-memory": (None, "512M", 512 << 20),
    "server-cpus": (None, "1.5", 1.5),
    "storage": (None, "postgres", "postgres"),
    "server-wrapper": ((), "nice -n 5", ("nice", "-n", "5")),
    "postgres-programs": ("", "/usr/lib/pg", "/usr/lib/pg"),
    "slots": (512, "64", 64),
    "virtual-servers": (160, "9", 9),
    "deadline": (10.0, "2.5", 2.5),
    "init-deadline": (180.0, "60", 60.0),
    "resize-deadline": (600.0, "30", 30.0),
    "start-deadline": (30.0, "5", 5.0),
    "heartbeat-interval": (1.0, "0.5", 0.5),
    "heartbeat-deadline": (2.0, "1", 1.0),
    "heartbeat-misses": (3, "5", 5),
    "hung-deadline": (60.0, "90", 90.0),
    "respawn-tries": (6, "2", 2),
    "body-bytes-max": (16 << 20, "1000", 1000),
    "rows-max": (100_000, "10", 10),
    "connections-max": (10_000, "7", 7),
    "receiving-bytes-max": (256 << 20, "20000000", 20_000_000),
    "queue-max": (20_000, "8", 8),
}


def parsed(*arguments: str, **environment: str) -> BalancerOptions:
    """Return the options of a command line in an environment."""
    options = BalancerOptions(environment)
    options.parseOptions(["--auto-init", "default", *arguments])
    return options


class OptionsTests(SynchronousTestCase):
    def test_all_options_are_listed_here(self) -> None:
        """No option is without a test of its default, its spelling and its variable."""
        listed = {*OPTIONS, "follow", "secret-file", "peers", "name", "link", "advertise"}
        self.assertEqual({parameter[0] for parameter in BalancerOptions.optParameters}, listed)

    def test_defaults(self) -> None:
        """Without a word the balancer serves on port 5000 of the loopback."""
        options = BalancerOptions({})
        options.parseOptions([])

        self.assertEqual({name: options[name] for name in OPTIONS}, {name: value[0] for name, value in OPTIONS.items()})

    def test_command_line(self) -> None:
        """Every option can be given as an argument."""
        for name, (_, text, value) in OPTIONS.items():
            self.assertEqual(parsed(f"--{name}", text)[name], value, name)

    def test_environment(self) -> None:
        """Every option can be given as SHARDLB_<OPTION>; an argument wins."""
        for name, (_, text, value) in OPTIONS.items():
            variable = f"SHARDLB_{name.upper().replace('-', '_')}"
            options = BalancerOptions({variable: text, "SHARDLB_AUTO_INIT": "default"})
            options.parseOptions([])
            self.assertEqual(options[name], value, variable)
        self.assertEqual(parsed("--slots", "5", SHARDLB_SLOTS="6")["slots"], 5)

    def test_names_of_the_course(self) -> None:
        """The names of the course's projects work as well; ours win."""
        options = parsed(NUM_SLOTS="256", NUM_VIRT_SERV="9", PORT="5001", SERVER_NUMBER="3")
        containers = parsed(SERVER_IMAGE="shard", NETWORK_MODE="net1")

        self.assertEqual((options["slots"], options["virtual-servers"], options["server-number"]), (256, 9, 3))
        self.assertEqual((containers["server-image"], containers["network"]), ("shard", "net1"))
        self.assertEqual(options["port"], "tcp:5001:interface=127.0.0.1")
        self.assertEqual(parsed(HASH_MODULO="128")["slots"], 128)
        self.assertEqual(parsed(HASH_MODULO="128", SHARDLB_SLOTS="64")["slots"], 64)

    def test_limits_that_contradict_each_other(self) -> None:
        """The longest body must fit into what all requests may hold."""
        text = str(self.assertRaises(usage.UsageError, parsed, "--receiving-bytes-max", "1000"))

        self.assertIn("1000 bytes of all requests (receiving-bytes-max) are fewer", text)

    def test_an_endpoint_is_taken_as_it_is(self) -> None:
        """Whoever wants to serve a network says so."""
        self.assertEqual(parsed("--port", "tcp:80")["port"], "tcp:80")

    def test_bad_values(self) -> None:
        """What cannot be a value is refused, with the name of where it stood."""
        for name, text in (
            ("slots", "0"),
            ("deadline", "-1"),
            ("deadline", "inf"),
            ("port", "70000"),
            ("lane", "fast"),
            ("rows-max", "x"),
            ("launcher", "podman"),
            ("server-memory", "10m"),
            ("server-memory", "much"),
            ("server-cpus", "0"),
            ("server-wrapper", ""),
            ("server-wrapper", "no-such-program --at-all"),
            ("body-bytes-max", "100000000"),
        ):
            self.assertRaises(usage.UsageError, parsed, f"--{name}", text)
        error = self.assertRaises(usage.UsageError, parsed, NUM_SLOTS="many")
        self.assertIn("NUM_SLOTS=many", str(error))

    def test_server_number_belongs_to_the_default_table(self) -> None:
        """A number of servers beside a file that says it already is refused."""
        self.assertRaises(usage.UsageError, parsed, "--auto-init", "table.json", "--server-number", "3")


class FollowerTests(SynchronousTestCase):
    def parsed(self, *arguments: str, **environment: str) -> BalancerOptions:
        """Return the options of a follower."""
        options = BalancerOptions(environment)
        options.parseOptions(["--secret-file", "secret", *arguments])
        return options

    def test_balancers(self) -> None:
        """Any number of URLs, from the command line or the environment."""
        expected = (Endpoint("10.0.0.1", 5000), Endpoint("lb-2", 80))

        self.assertEqual(self.parsed("--follow", "http://10.0.0.1:5000, http://lb-2:80/")["follow"], expected)
        self.assertEqual(self.parsed(SHARDLB_FOLLOW="http://10.0.0.1:5000,http://lb-2:80")["follow"], expected)

    def test_what_is_no_balancer(self) -> None:
        """A URL that cannot be asked is refused, and named."""
        for url in ("", "10.0.0.1", "10.0.0.1:5000", "http://10.0.0.1", "http://:5000", "http://a:b", "ftp://a:1"):
            error = self.assertRaises(usage.UsageError, self.parsed, "--follow", f"http://a:1,{url}")
            self.assertIn(f"{url!r} is no balancer's URL", str(error))

    def test_a_secret_is_needed(self) -> None:
        """Nobody follows without knowing the cluster's secret."""
        error = self.assertRaises(usage.UsageError, BalancerOptions({}).parseOptions, ["--follow", "http://a:1"])
        self.assertIn("--secret-file", str(error))

    def test_options_of_others(self) -> None:
        """What only a balancer does cannot be asked of a follower, nor the other way round."""
        for arguments in (("--workers", "2"), ("--rebuild",), ("--auto-init", "default"), ("--respawn-tries", "3")):
            error = self.assertRaises(usage.UsageError, self.parsed, "--follow", "http://a:1", *arguments)
            self.assertIn(f"{arguments[0]} is for a balancer", str(error))
        for arguments in (("--share-port",), ("--stop-on-eof",)):
            error = self.assertRaises(usage.UsageError, BalancerOptions({}).parseOptions, arguments)
            self.assertIn(f"{arguments[0]} is for followers", str(error))

    def test_what_a_worker_is_told(self) -> None:
        """Every option that a balancer hands on to its workers is one that a follower takes."""
        texts = {**{name: text for name, (_, text, _) in OPTIONS.items()}, "name": "b"}

        options = self.parsed("--follow", "http://a:1", *(f"--{name}={texts[name]}" for name in roles.SERVING))

        self.assertEqual((options["name"], options["lane"]), ("b", "klein"))

    def test_an_environment_for_all(self) -> None:
        """An environment may tell more than a follower has use for: the same image can be anything."""
        options = self.parsed(SHARDLB_FOLLOW="http://a:1", SHARDLB_DATA_DIR="/data", SHARDLB_LAUNCHER="docker")

        self.assertEqual(options["follow"], (Endpoint("a", 1),))

    def test_a_secret_is_for_somebody(self) -> None:
        """A balancer alone makes its secret itself."""
        error = self.assertRaises(usage.UsageError, BalancerOptions({}).parseOptions, ["--secret-file", "x"])
        self.assertIn("--secret-file is for one of several balancers (--peers), or with --follow", str(error))

    def test_numbers_of_workers(self) -> None:
        """None or some, but not any number."""
        for text in ("-1", "257", "two", "1.5"):
            self.assertRaises(usage.UsageError, parsed, "--workers", text)


class PeerTests(SynchronousTestCase):
    """One of several balancers."""

    def parsed(self, *arguments: str, **environment: str) -> BalancerOptions:
        """Return the options of one of three."""
        options = BalancerOptions({"SHARDLB_PEERS": "lb1=h1:1,lb2=h2:1,lb3=h3:1", **environment})
        options.parseOptions(arguments)
        return options

    def test_one_of_three(self) -> None:
        """Who they are, which one this is, and where the others connect."""
        options = self.parsed("--link", "5100", "--servers-dir", "/srv", "--rejoin", SHARDLB_NAME="lb2")

        self.assertEqual(options["peers"]["lb3"], Endpoint("h3", 1))
        self.assertEqual((options["name"], options["link"], options["rejoin"]), ("lb2", "tcp:5100", 1))

    def test_what_is_missing(self) -> None:
        """A balancer must be one of those named, and all have their servers in one directory."""
        for arguments, told in (
            ((), "--peers needs --name, which of lb1, lb2, lb3"),
            (("--name", "lb4"), "--name lb4 is none of --peers, which are lb1, lb2, lb3"),
            (("--name", "lb1"), "--peers needs --servers-dir"),
            (("--name", "lb1", "--servers-dir", "/s", "--rejoin", "--rebuild"), "--rejoin is for one balancer"),
            (("--name", "lb1", "--share-port"), "--share-port is for followers"),
        ):
            error = self.assertRaises(usage.UsageError, self.parsed, *arguments)
            self.assertIn(told, str(error))

    def test_of_a_balancer_alone(self) -> None:
        """What only one of several needs is refused to one alone, and --peers must be a list of them."""
        for arguments in (("--name", "lb1"), ("--link", "5100"), ("--advertise", "http://lb1:80"), ("--rejoin",)):
            error = self.assertRaises(usage.UsageError, BalancerOptions({}).parseOptions, arguments)
            self.assertIn(f"{arguments[0]} is for one of several balancers", str(error))
        error = self.assertRaises(usage.UsageError, self.parsed, "--peers", "lb1=h1:1")
        self.assertIn("1 balancers: name 3", str(error))


class DefaultTableTests(SynchronousTestCase):
    def test_is_a_valid_request(self) -> None:
        """Six servers, four shards, each on three of them."""
        request = parse_init({}, encode(default_table()), InitLimits())

        self.assertEqual(len(request.servers), 6)
        on_it = [sum(shard.shard in named for named in request.servers.values()) for shard in request.shards]
        self.assertEqual(on_it, [3, 3, 3, 3])

    def test_with_a_number_of_servers(self) -> None:
        """The balancer places the replicas on as many servers as asked."""
        request = parse_init({}, encode(default_table(4)), InitLimits())

        self.assertEqual(request.servers, {f"Server{number}": () for number in range(4)})
