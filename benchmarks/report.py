"""What a session shows: a progress bar on a terminal's standard error, a table and a verdict, and JSON.

Figures are medians over the runs; a ratio is the median of the ratios of each run to the ceiling measured beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.client import Watch
from benchmarks.course import document_of
from benchmarks.measure import Summary, median_of
from benchmarks.run import Outcome, Pair
from benchmarks.session import Session
from benchmarks.workloads import WORKLOADS

#: Drawing a bar costs the client about a millisecond, which is missing from the figures; so it is drawn seldom.
_DRAW_SECONDS = 0.5
#: Latencies and pauses are in milliseconds; `cpu µs` is what the client itself uses per request.
_HEADINGS = ("sent", "per s", "p50", "p95", "p99", "max", "pause", "failed", "cpu µs")


class Bars:
    """Progress bars, one for each load, on a console that is a terminal; otherwise nothing is written."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def display(self, title: str, total: int) -> Watch:
        """Return the watch that draws the bar of a load of `total` requests."""
        task = self._progress.add_task(title, total=total)
        drawn_at = self._clock()

        def watch(over: int) -> None:
            nonlocal drawn_at
            now = self._clock()
            if over == total:
                self._progress.remove_task(task)
            elif now - drawn_at >= _DRAW_SECONDS:
                drawn_at = now
                self._progress.update(task, completed=over, refresh=True)

        return watch


def show(session: Session, console: Console) -> None:
    """Print the table of a session and what there is to say about it."""
    for part in (_title(session), _table(session), *_notes(session)):
        console.print(part, highlight=False, markup=False, soft_wrap=isinstance(part, str))


def to_json(session: Session, command: str) -> bytes:
    """Return the session with its medians and ratios as indented JSON; it is a document of the suite as well."""
    ours = [run.ours.figures for run in session.runs]
    document = {
        **msgspec.to_builtins(document_of(session, command)),
        **msgspec.to_builtins(session),
        "medians": {"writes": median_of([pair.writes for pair in ours]), "reads": median_of([p.reads for p in ours])},
        "ratios": ratios(session),
        "good": good(session),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def good(session: Session) -> bool:
    """Return whether every run was verified and nothing failed in it."""
    return all(
        run.ours.verdict.good
        and not run.ours.figures.writes.errors
        and not run.ours.figures.reads.errors
        and (run.ours.killed is None or run.ours.killed.struck)
        for run in session.runs
    )


def ratios(session: Session) -> dict[str, float] | None:
    """Return our rate over the ceiling's for writes and reads, None if no ceiling was measured."""
    pairs = [(run.ours.figures, run.ceiling) for run in session.runs if run.ceiling is not None]
    if not pairs:
        return None
    return {
        "writes": median(ours.writes.rate_per_second / top.writes.rate_per_second for ours, top in pairs),
        "reads": median(ours.reads.rate_per_second / top.reads.rate_per_second for ours, top in pairs),
    }


def _title(session: Session) -> str:
    options = session.options
    return (
        f"{options.workload}: {WORKLOADS[options.workload].about}; {options.concurrency} connections, "
        f"names of {options.width} bytes, {options.runs} run{'s' if options.runs > 1 else ''}\n"
    )


def _table(session: Session) -> Table:
    table = Table(
        caption="milliseconds; cpu is the client's own, per request",
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=0,
    )
    table.add_column("", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    ours = [run.ours.figures for run in session.runs]
    ceilings = [run.ceiling for run in session.runs if run.ceiling is not None]
    _add_rows(table, "", ours)
    if ceilings:
        _add_rows(table, "bare Klein ", ceilings)
    _add_rows(table, "constant, ", [session.client])
    return table


def _add_rows(table: Table, name: str, pairs: list[Pair]) -> None:
    for what, summaries in (("writes", [pair.writes for pair in pairs]), ("reads", [pair.reads for pair in pairs])):
        table.add_row(f"{name}{what}", *_cells(median_of(summaries)))


def _cells(summary: Summary) -> Iterator[str]:
    yield f"{summary.requests:,}"
    yield f"{summary.rate_per_second:,.0f}"
    for value in (summary.p50_ms, summary.p95_ms, summary.p99_ms, summary.max_ms, summary.pause_ms):
        yield f"{value:.1f}"
    yield f"{summary.requests - summary.succeeded:,}"
    yield f"{summary.client_cpu_us_per_request:.0f}"


def _notes(session: Session) -> Iterator[str]:
    if (found := ratios(session)) is not None:
        yield f"of the bare Klein app's rate: writes {found['writes']:.2f}, reads {found['reads']:.2f}"
    for number, run in enumerate(session.runs, 1):
        for what, summary in (("writes", run.ours.figures.writes), ("reads", run.ours.figures.reads)):
            for kind, count in summary.errors.items():
                yield f"run {number}, {what}: {count:,} of {kind}"
        yield from _used(number, run.ours)
        yield from _murder(number, session)
        verdict = run.ours.verdict
        if verdict.good:
            yield (
                f"run {number}: {verdict.replicas} replicas identical after {verdict.seconds:.1f} s, "
                f"{verdict.rows:,} rows, exactly what was acknowledged"
                + (f" and {verdict.unknown_stored} of unknown outcome" if verdict.unknown_stored else "")
            )
        for problem in verdict.problems:
            yield f"run {number}: WRONG: {problem}"
    if session.kept is not None:
        yield f"data and logs are kept in {session.kept}"
    machine = session.machine
    yield (
        f"{machine.cpu}, {machine.cores} cores, {machine.kernel}, Python {machine.python}, "
        f"load {machine.load_average[0]:.2f}, {machine.filesystem}, fdatasync {machine.sync_ms:.2f} ms, "
        f"revision {machine.revision}"
    )


def _used(number: int, outcome: Outcome) -> Iterator[str]:
    """Yield processor time and memory by role."""
    summaries = {"writes": outcome.figures.writes, "reads": outcome.figures.reads}
    for phase, usage in outcome.usage.items():
        figures = usage.figures(summaries[phase].succeeded)
        by_role = ", ".join(
            f"{role} {figures[f'cpu_{role}_us']:.0f} µs, {figures[f'rss_peak_{role}_mb']:.0f} MB"
            for role in usage.cpu_seconds
            if f"cpu_{role}_us" in figures
        )
        yield f"run {number}, {phase}: processor time each, and the peak of the largest process: {by_role}"


def _murder(number: int, session: Session) -> Iterator[str]:
    run = session.runs[number - 1]
    if (killed := run.ours.killed) is None:
        return
    if not killed.struck:
        yield f"run {number}: the writes were over before {killed.server} could be killed; give more --rows"
        return
    writes = run.ours.figures.writes
    by_shard = ", ".join(f"{shard} {pause:.0f} ms" for shard, pause in writes.pause_ms_by_shard.items())
    led = f"leader of {', '.join(killed.led)}" if killed.led else "leader of nothing"
    yield f"run {number}: killed {killed.server}, {led}; longest pause {writes.pause_ms:.0f} ms ({by_shard})"
    yield f"run {number}: started again by: {killed.restarted_by}"
