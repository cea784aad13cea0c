"""What stands in front of each server's command: puts the server into a place of its own and becomes it.

    enter.py DIRECTORY COMMAND...

DIRECTORY holds places.json, a list of [name, command that becomes what follows it, address]; a server keeps the place
it took first, by its name, and tries to keep its ports. Imports nothing that takes long, since every server starts
through it.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Become the command, in the place."""
    directory, command = sys.argv[1], sys.argv[2:]
    inside, address = place_of(directory, argument(command, "--name"))
    before = endpoints(argument(command, "--data-dir"))
    for what in ("http", "link"):
        port = before.get(what, {}).get("port", 0) if before.get(what, {}).get("host") == address else 0
        os.environ[f"SHARDLB_{what.upper()}"] = f"tcp:{port}:interface={address}"
    os.execvp(inside[0], [*inside, *command])


def argument(command: list[str], option: str) -> str:
    """Return what follows an option."""
    return command[command.index(option) + 1]


def place_of(directory: str, name: str) -> tuple[list[str], str]:
    """Return the place of a server, as command and address; a new one takes the first that is free."""
    with open(os.path.join(directory, "places.json"), "rb") as file:
        places = json.load(file)
    for place, inside, address in places:
        path = os.path.join(directory, place)
        try:
            with open(path, "x") as taken:
                taken.write(name)
        except FileExistsError:
            with open(path) as taken:
                if taken.read() != name:
                    continue
        return inside, address
    sys.exit(f"all {len(places)} places are taken: there is none for {name}")


def endpoints(data_directory: str) -> dict[str, dict[str, object]]:
    """Return where a server listened before, {} if it never did."""
    try:
        with open(os.path.join(data_directory, "endpoints.json"), "rb") as file:
            found: dict[str, dict[str, object]] = json.load(file)
    except FileNotFoundError:
        return {}
    return found


if __name__ == "__main__":
    main()
