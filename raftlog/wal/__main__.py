"""Lists, verifies and explains a write-ahead log: python -m raftlog.wal DIR. Changes and repairs nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from raftlog.wal.directory import OsDirectory
from raftlog.wal.inspect import inspect


def main(arguments: list[str]) -> int:
    """Print what there is to say; 0 if the log is whole, 1 if it is not."""
    parser = argparse.ArgumentParser(prog="python -m raftlog.wal", description=__doc__)
    parser.add_argument("directory", type=Path, help="the directory of the log, for example DATA/Server0/wal")
    parser.add_argument("--records", action="store_true", help="list every record, without its data")
    options = parser.parse_args(arguments)
    if not options.directory.is_dir():
        parser.error(f"{options.directory} is not a directory")
    inspection = inspect(OsDirectory(options.directory, read_only=True), list_records=options.records)
    print("\n".join(inspection.lines))
    return 0 if inspection.whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
