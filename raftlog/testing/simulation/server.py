"""One simulated server: the real driver and log in a process that starts, runs, pauses, crashes and comes back."""

from __future__ import annotations

import random
from collections.abc import Callable

from msgspec.structs import replace
from twisted.python.failure import Failure

from raftlog.errors import LostData
from raftlog.link import Lane
from raftlog.messages import ConfState, RaftItem
from raftlog.node import Node, Transport
from raftlog.options import Limits, Times
from raftlog.testing.disk import MemoryDisk
from raftlog.testing.simulation.clock import ProcessClock
from raftlog.testing.simulation.network import SimulatedNetwork
from raftlog.testing.simulation.wal import SimulatedWal
from raftlog.testing.simulation.world import GROUP, SimulatedMachine, World
from raftlog.wal import Options, WalError, open_on

#: As by default, but with half as many ticks in a second.
TIMES = Times(tick_seconds=0.05, heartbeat_ticks=2, election_ticks=6)
#: A follower gathers for so long what it applies, one of these.
GATHERING_TICKS = (0, 1, 5)
#: Small, so that compaction, snapshots and full windows happen all the time.
LIMITS = Limits(
    message_bytes_max=300, inflight_messages_max=4, log_bytes_max=1500, held_bytes_max=4000, uncommitted_bytes_max=4000
)
#: Small, so that segments are opened, recycled and rewritten all the time.
WAL_OPTIONS = Options(segment_bytes=8 << 10, rewrite_bytes_max=1 << 10, segments_kept=2, free_bytes_min=0)
#: Seconds that a write takes at least and at most.
DISK_SECONDS = (0.0001, 0.002)
#: Of a disk that is not full.
DISK_BYTES = 1 << 40


class _Door(Transport):
    """A server's way to the network."""

    def __init__(self, network: SimulatedNetwork, name: str) -> None:
        self._network = network
        self._name = name

    def send(self, name: str, lane: Lane, item: RaftItem) -> bool:
        return self._network.send(self._name, name, item)


def _cause(failure: Failure) -> BaseException:
    assert failure.value is not None
    return failure.value


class SimulatedServer:
    """A server that holds at most one replica, that of the simulation's one group, while it holds one."""

    def __init__(self, name: str, world: World, rng: random.Random) -> None:
        self.name = name
        self.disk = MemoryDisk(random.Random(rng.getrandbits(64)))
        self.disk_seconds = DISK_SECONDS
        self.node: Node | None = None
        #: The replica's id and content, whether or not a process runs.
        self.replica_id = 0
        self.machine: SimulatedMachine | None = None
        self.paused = False
        self._world = world
        self._rng = rng
        self._process: ProcessClock | None = None

    @property
    def is_up(self) -> bool:
        """Whether a process runs here, paused or not."""
        return self.node is not None

    @property
    def clock(self) -> ProcessClock:
        """The time of the process that runs here; what is scheduled ends with it."""
        assert self._process is not None
        return self._process

    @property
    def leads(self) -> bool:
        """Whether the replica here believes to lead."""
        return self.node is not None and any(group.is_leader for group in self.node.open_groups())

    def run(self, callable: Callable[..., object], *args: object) -> None:
        """Do something in the server's process, if there is one, now or when it is resumed."""
        if self._process is not None:
            self._process.run(callable, *args)

    # ---- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process on what the disk holds. A disk that fails while it starts ends it at once."""
        process = ProcessClock(self._world.clock, self._ran)

        def call_from_thread(call: Callable[[], None]) -> None:
            process.callLater(0, call)

        def at_end_of_turn(write: Callable[[], None]) -> None:
            process.callLater(0, lambda: log.end_turn(write))

        try:
            wal, recovered = open_on(
                self.disk,
                call_from_thread=call_from_thread,
                on_fatal=lambda error: self._fatal(process, error),
                options=WAL_OPTIONS,
                clock=process.seconds,
                rng=random.Random(self._rng.getrandbits(64)),
                at_end_of_turn=self._rng.choice((None, at_end_of_turn)),
            )
        except WalError as error:
            self._does_not_start(error)
            return
        self._world.tell(f"{self.name} starts")
        self._world.happened["server: started"] += 1
        self._process = process
        log = SimulatedWal(wal, recovered, process, self._write_seconds, self._world.happened)
        self.node = Node(
            process,
            log,
            recovered,
            _Door(self._world.network, self.name),
            random.Random(self._rng.getrandbits(64)),
            fatal=lambda failure: self._fatal(process, _cause(failure)),
            observe=lambda change: self._world.role_changed(self.name, change),
            times=replace(TIMES, gathering_ticks=self._rng.choice(GATHERING_TICKS)),
            limits=LIMITS,
        )
        self.node.startService()
        if GROUP in recovered:
            self.replica_id = recovered[GROUP].replica_id
            self._open(self.node, process)
        else:
            self.replica_id, self.machine = 0, None

    def _does_not_start(self, error: WalError) -> None:
        self._world.tell(f"{self.name} does not start: {error}")
        self._world.happened["server: did not start"] += 1
        self.disk.restart(power_off=not self.disk.is_on)

    def _write_seconds(self) -> float:
        return self._rng.uniform(*self.disk_seconds)

    def _open(self, node: Node, process: ProcessClock) -> None:
        assert self.machine is not None
        self.machine.begin(process)
        try:
            node.open_group(GROUP, self._world.peers, self.machine)
        except LostData as lost:
            self._world.failed(lost)

    def create(self, replica_id: int, conf_state: ConfState) -> None:
        """Create a replica here."""
        assert self.node is not None and self._process is not None
        self._world.tell(f"{self.name} creates replica {replica_id}")
        self.replica_id = replica_id
        self.machine = self._world.new_machine(self._rng)
        self.machine.begin(self._process)
        created = self.node.create_group(GROUP, replica_id, conf_state, self._world.peers, self.machine)
        _ = created.addErrback(self._background_failure)

    def destroy(self) -> None:
        """Destroy the replica here."""
        assert self.node is not None
        self._world.tell(f"{self.name} destroys replica {self.replica_id}")
        self._world.happened["replica: destroyed"] += 1
        _ = self.node.remove_group(GROUP).addCallback(self._destroyed).addErrback(self._background_failure)

    def _destroyed(self, _: object) -> None:
        """Forget the content, which has to outlive the log's knowledge of the replica."""
        self.replica_id, self.machine = 0, None

    def _background_failure(self, failure: Failure) -> None:
        self._world.failed(_cause(failure))

    def deliver(self, item: RaftItem) -> None:
        """Hand over an item from the network, when the process gets to it."""
        if self.node is not None:
            self.run(self.node.receive, (item,))

    def hear_of_end(self, server: str) -> None:
        """Tell the process here that another server's has ended."""
        if self.node is not None:
            self.run(self.node.server_ended, server)

    def _ran(self) -> None:
        if self.node is not None:
            self._world.look(self.node)

    # ---- faults -----------------------------------------------------------------------------------------------

    def crash(self, *, power_off: bool) -> None:
        """End the process at once; without power the disk loses what was not synced, or some of it."""
        if self._process is None:
            return
        self._world.tell(f"{self.name} crashes{' without power' if power_off else ''}")
        self._world.happened["server: lost power" if power_off else "server: killed"] += 1
        self._end(power_off=power_off)

    def _end(self, *, power_off: bool) -> None:
        assert self._process is not None
        self._process.kill()
        self._process = self.node = None
        self.paused = False
        self.disk.restart(power_off=power_off)
        if self.machine is not None:
            self.machine.crash(power_off=power_off)

    def crash_in_write(self) -> None:
        """Cut the power in the middle of one of the next operations of the disk."""
        if self.is_up:
            self._world.tell(f"{self.name}: the power goes off in the middle of a write")
            self.disk.power_off_at = self.disk.operations + self._rng.randint(1, 3)

    def lose_disk(self) -> None:
        """Replace disk and store by empty ones; the process ends."""
        self.crash(power_off=True)
        self._world.tell(f"{self.name} loses its disk")
        self._world.happened["server: lost its disk"] += 1
        self.disk = MemoryDisk(random.Random(self._rng.getrandbits(64)))
        self.replica_id, self.machine = 0, None

    def _fatal(self, process: ProcessClock, reason: BaseException) -> None:
        """End the process as its driver or log wants it, which only a failed disk may cause."""
        if process is not self._process:
            return
        if not isinstance(reason, WalError):
            self._world.failed(reason)
            return
        self._world.tell(f"{self.name} ends itself: {reason}")
        lost_power = not self.disk.is_on
        self._world.happened["disk: power off in a write" if lost_power else "disk: failed"] += 1
        self._end(power_off=lost_power)

    def pause(self) -> None:
        """Stop the process as SIGSTOP does."""
        if self._process is not None and not self.paused:
            self.paused = True
            self._world.tell(f"{self.name} is paused")
            self._world.happened["server: paused"] += 1
            self._process.pause()

    def resume(self) -> None:
        """Let it go on."""
        if self._process is not None and self.paused:
            self.paused = False
            self._world.tell(f"{self.name} goes on")
            self._process.resume()
