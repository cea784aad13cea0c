"""The data-driven cases: their grammar, how they are compared and recorded, others' corpus and our own files."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

import raftlog
from raftlog.messages import Entry, Message, MessageType
from raftlog.testing.datadriven.__main__ import main
from raftlog.testing.datadriven.cases import MalformedCase, parse_cases, parse_directive, render_cases
from raftlog.testing.datadriven.describe import describe_entry, describe_message
from raftlog.testing.datadriven.replay import Difference, files, record, replay, without_log_lines

PROJECT = Path(raftlog.__file__).parent.parent
OURS = Path(__file__).parent / "testdata"
CORPUS = Path(os.environ.get("SHARDLB_TESTDATA", PROJECT / ".." / "shared" / "testdata"))

PASSING = "# a vote\nvote cfg=(1) votes=(y)\n----\nVoteWon\n"


class GrammarTests(SynchronousTestCase):
    def test_directive(self) -> None:
        """A directive has words, options with one value and options with a list, which may hold blanks."""
        directive = parse_directive("add-nodes 3 voters=(1, 2,3) index=10 learners=()")

        self.assertEqual(directive.name, "add-nodes")
        self.assertEqual(directive.words, ("3",))
        self.assertEqual(directive.numbers("voters"), (1, 2, 3))
        self.assertEqual(directive.option("index"), "10")
        self.assertEqual(directive.numbers("learners"), ())
        self.assertEqual(directive.option("content", "none"), "none")

    def test_blocks(self) -> None:
        """Comments, a continued directive, its input and its answer belong to one case."""
        text = "\n# about it\nsimple \\\n  now\nv1\nv2\n----\nyes\nindeed\n\nvote\n----\nVoteWon\n# the end\n"

        (first, second), tail = parse_cases(text)

        self.assertEqual((first.line, first.directive.words, first.input), (3, ("now",), "v1\nv2"))
        self.assertEqual(first.expected, "yes\nindeed")
        self.assertEqual((second.directive.name, second.expected), ("vote", "VoteWon\n# the end"))
        self.assertEqual(tail, [])

    def test_fenced_answer(self) -> None:
        """An answer with blank lines in it stands between fences."""
        text = "status 1\n----\n----\none\n\ntwo\n----\n----\n\nvote\n----\nok\n"

        (first, second), _ = parse_cases(text)

        self.assertEqual(first.expected, "one\n\ntwo")
        self.assertEqual(second.expected, "ok")

    def test_unfinished(self) -> None:
        """A directive without an answer and a fence that is not closed are refused with the line."""
        for text in ("vote cfg=(1)\n", "status\n----\n----\none\n\n"):
            error = self.assertRaises(MalformedCase, parse_cases, text)

            self.assertIn("line", str(error))

    def test_render_keeps_everything_but_answers(self) -> None:
        """What is rendered with the expected answers is the file as it was."""
        text = (
            "# one\nstatus 1 \\\n  a=(b)\n----\n----\none\n\ntwo\n----\n----\n\n\n# two\nvote\nx\n----\nok\n\n# end\n"
        )

        cases, tail = parse_cases(text)

        self.assertEqual(render_cases(cases, tail, lambda case: case.expected), text)

    def test_log_lines_do_not_count(self) -> None:
        """Log lines are taken out; an answer of nothing else is the same as ok."""
        self.assertEqual(
            without_log_lines("> 1 handling Ready\n  INFO 1 became leader\n  Entries:"),
            "> 1 handling Ready\n  Entries:",
        )
        self.assertEqual(without_log_lines("DEBUG 1 did something"), "ok")


class DescriptionTests(SynchronousTestCase):
    def test_data_is_quoted(self) -> None:
        """Data that is not plain text is escaped."""
        self.assertEqual(describe_entry(Entry(1, 2, b'a"\\\n\xff')), '1/2 EntryNormal "a\\"\\\\\\x0a\\xff"')

    def test_message(self) -> None:
        """A message names its sender, its addressee and only the fields that say something."""
        message = Message(MessageType.APPEND_RESPONSE, 1, 17, 3, 2, 9, reject=True, reject_hint=4)

        self.assertEqual(describe_message(message), "11->1 MsgAppResp Term:3 Log:2/9 Rejected (Hint: 4)")


class ReplayTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a folder for one file."""
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.file = self.folder / "case.txt"

    def say(self, *arguments: str) -> tuple[int, str]:
        """Run the command; return its exit status and what it printed."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status = main([str(self.folder), *arguments])
        return status, printed.getvalue()

    def test_difference(self) -> None:
        """A wrong expectation is reported with its line, what was expected and what was said."""
        self.file.write_text(PASSING + "\nvote cfg=(1) votes=(n)\n----\nVoteWon\n")

        self.assertEqual(replay(self.file), [Difference(6, "vote", "VoteWon", "VoteLost")])

    def test_command_passes(self) -> None:
        """The command prints a line for each file and how many passed."""
        self.file.write_text(PASSING)

        status, printed = self.say()

        self.assertEqual(status, 0)
        self.assertEqual(printed, f"{self.file}: passed\n1 passed, 0 failed\n")

    def test_command_fails(self) -> None:
        """The command shows what differs and ends with status 1."""
        self.file.write_text(PASSING.replace("Won", "Lost"))

        status, printed = self.say()

        self.assertEqual(status, 1)
        self.assertIn("  line 2: vote\n", printed)
        self.assertIn("    -VoteLost\n    +VoteWon\n", printed)
        self.assertTrue(printed.endswith("0 passed, 1 failed\n"))

    def test_rewrite(self) -> None:
        """With --rewrite a wrong answer is replaced and nothing else."""
        self.file.write_text(PASSING.replace("Won", "Lost"))

        status, _ = self.say("--rewrite")

        self.assertEqual(status, 0)
        self.assertEqual(self.file.read_text(), PASSING)

    def test_command_survives_a_broken_file(self) -> None:
        """A file that can't be read to the end fails with the reason; the others are replayed."""
        (self.folder / "broken.txt").write_text("vote cfg=(1) votes=(y)\n")
        self.file.write_text(PASSING)

        status, printed = self.say()

        self.assertEqual(status, 1)
        self.assertIn("broken.txt: failed: MalformedCase: line 1: the file ends", printed)
        self.assertTrue(printed.endswith("1 passed, 1 failed\n"))

    def test_not_a_directive(self) -> None:
        """A directive that does not exist is an answer that can't be expected, not a crash."""
        self.file.write_text("fly 1\n----\nok\n")

        (difference,) = replay(self.file)

        self.assertEqual(difference.found, "unknown directive fly")


class OurCasesTests(SynchronousTestCase):
    def test_ours(self) -> None:
        """Our own files hold, and recording them anew changes nothing."""
        copy = Path(self.mktemp())
        shutil.copytree(OURS, copy)

        found = list(files([copy]))

        self.assertTrue(found)
        for path in found:
            self.assertEqual(replay(path), [], path.name)
            before = path.read_text(encoding="utf-8")
            record(path)
            self.assertEqual(path.read_text(encoding="utf-8"), before, path.name)


class CorpusTests(SynchronousTestCase):
    """The files others wrote; they stay outside of the project."""

    def _replay(self, kind: str) -> None:
        folder = CORPUS / kind
        if not folder.is_dir():
            raise SkipTest(f"no data-driven cases in {folder.resolve()}: set SHARDLB_TESTDATA to where they are")
        found = list(files([folder]))

        failed = {path.name: differences[0] for path in found if (differences := replay(path))}

        self.assertTrue(found)
        self.assertEqual(failed, {})

    def test_quorum(self) -> None:
        """The arithmetic of quorums, word for word."""
        self._replay("quorum")

    def test_confchange(self) -> None:
        """Changes of membership, word for word."""
        self._replay("confchange")

    def test_interaction(self) -> None:
        """Dialogues with whole clusters, word for word."""
        self._replay("interaction")
