"""`bin/bench report`: puts tables and plots of documents into a Markdown file, between marks that say whose they are.

What stands between a pair of marks is replaced; all other text is the author's and stays. An experiment that has no
marks yet gets a section at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from benchmarks.suite.bulk import AT_ONCE
from benchmarks.suite.columns import cells, columns, number
from benchmarks.suite.document import OURSELVES, Document, ratio
from benchmarks.suite.show import conditions, notes
from benchmarks.suite.subjects import POSTGRES


def insert(markdown: str, documents: Sequence[Document], plots: str | None) -> str:
    """Return the text with a section for each document; `plots` is the directory of their SVGs as links see it."""
    for document in documents:
        markdown = _insert(markdown, document, plots)
    return markdown


def section(document: Document, plots: str | None) -> str:
    """Return what stands between a document's marks."""
    wanted = columns(document)
    lines = [f"Command: `{document.command}`; {document.started[:10]}, {conditions(document.machine)}.", ""]
    if plots is not None:
        lines += [f"![{document.title}]({plots}/{document.experiment}.svg)", ""]
    lines.append(_row([column.heading for column in wanted]))
    lines.append(_row(["---" if column.is_name else "---:" for column in wanted]))
    lines += [_row(cells(document, point, wanted)) for point in document.points]
    lines += ["", "Medians over the runs; CPU µs per operation and RSS peak are those of balancer + servers + client."]
    lines += [f"* {note}" for note in (*_derived(document), *notes(document))]
    return "\n".join([*lines, *_memory(document)])


def _memory(document: Document) -> Iterator[str]:
    """Yield every process of that sample of ours in which one of them was largest, folded away."""
    samples = [sample for point in document.points if point.subject == OURSELVES for sample in point.samples]
    used = [sample.memory for sample in samples if sample.memory]
    if not used:
        return
    yield from ("", "<details><summary>Memory of each process in the phase with the largest peak, MB</summary>", "")
    yield _row(["process", "role", "RSS before", "after", "peak", "PSS before", "after"])
    yield _row(["---", "---", *["---:"] * 5])
    for one in max(used, key=lambda memory: max(process.rss_peak_mb for process in memory)):
        sizes = (one.rss_before_mb, one.rss_after_mb, one.rss_peak_mb, one.pss_before_mb, one.pss_after_mb)
        yield _row([one.name, one.role, *map(number, sizes)])
    yield from ("", "</details>")


def _insert(markdown: str, document: Document, plots: str | None) -> str:
    begin, end = (f"<!-- {mark} bench {document.experiment} -->" for mark in ("begin", "end"))
    block = f"{begin}\n{section(document, plots)}\n{end}"
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if found.search(markdown) is not None:
        return found.sub(lambda _: block, markdown)
    return f"{markdown.rstrip()}\n\n## {document.title}\n\n{block}\n"


def _row(parts: Sequence[str]) -> str:
    return f"| {' | '.join(part.replace('|', '/') for part in parts)} |"


def _derived(document: Document) -> Iterator[str]:
    """Yield what a table does not show by itself: ratios within the runs, and what a replica costs the servers."""
    if document.experiment == "layouts":
        yield from _losses(document)
    if document.experiment == "replicas":
        yield from _cost_of_replicas(document)
    loads = [point for point in document.points if (point.subject, point.phase) == (OURSELVES, "load")]
    if (copy := document.point(POSTGRES, "load", AT_ONCE)) is not None:
        pairs = ((load, ratio(load, copy, "rows_per_second")) for load in loads)
        yield from (f"load {load.x}: {found:.2f} of one COPY" for load, found in pairs if found is not None)


def _losses(document: Document) -> Iterator[str]:
    """Yield by how much each layout is slower than the first one, the medians of the runs' own ratios."""
    for first in (point for point in document.points if point.x == document.points[0].x):
        others = [point for point in document.points if point.phase == first.phase and point is not first]
        pairs = ((other, ratio(other, first, "rate_per_second")) for other in others)
        lost = [f"{other.x} {100 * (1 - found):.0f} %" for other, found in pairs if found is not None]
        yield f"{first.phase}, less than {first.x}: {', '.join(lost)}"


def _cost_of_replicas(document: Document) -> Iterator[str]:
    for phase in dict.fromkeys(point.phase for point in document.points):
        points = [point for point in document.points if (point.subject, point.phase) == (OURSELVES, phase)]
        places = [(float(p.x), p.medians().get("cpu_servers_us", 0.0)) for p in points if not isinstance(p.x, str)]
        if len(places) > 1:
            yield f"{phase}: {_slope(places):.1f} µs of the servers' time per row and further replica (least squares)"


def _slope(places: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line of least squares through (x, y)."""
    mean_x = sum(x for x, _ in places) / len(places)
    mean_y = sum(y for _, y in places) / len(places)
    return sum((x - mean_x) * (y - mean_y) for x, y in places) / sum((x - mean_x) ** 2 for x, _ in places)
