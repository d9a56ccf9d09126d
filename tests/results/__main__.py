"""Keep the results of a sweep, and make the tables of RESULTS.md.

Run: python -m tests.results FOLDER NAME --command "hep sweep …" --commit abc1234 --machine "…" --show 50
     python -m tests.results            only make the tables anew
     python -m tests.results --draw NAME [--epochs N]     its figure, from what is kept
"""

import argparse
from pathlib import Path

from tests.results.figures import draw
from tests.results.records import collect
from tests.results.tables import write


def main() -> None:
    """Parse, collect, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("name", nargs="?")
    for fact in ("command", "commit", "machine", "across", "within", "against"):
        parser.add_argument(f"--{fact}")
    parser.add_argument("--show", type=int, nargs="*")
    parser.add_argument("--draw", metavar="NAME")
    parser.add_argument("--epochs", type=int)
    given = vars(parser.parse_args())
    folder, name, drawn, epochs = (given.pop(key) for key in ("folder", "name", "draw", "epochs"))
    if drawn is not None:
        print(draw(drawn, epochs))
        return
    if folder is not None:
        print(collect(folder, name, **given))
    print(write())


if __name__ == "__main__":
    main()
