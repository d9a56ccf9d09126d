"""`python -m tests.faults`: the small campaign; with --full all of it; with kinds and moments, those."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from .campaign import KINDS, campaign, share_programs


def main() -> int:
    """Run the campaign; 1 where there was a fault."""
    options = _options()
    plan = {
        kind: options.moments or (range(KINDS[kind].full) if options.full else KINDS[kind].small)
        for kind in options.kinds or KINDS
    }
    if options.full:
        os.environ.setdefault("HEP_FAULTS_MOUNT", "1")
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="hep-faults-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    share_programs(folder / "compiled")
    faults = campaign(folder, plan, sys.stdout)
    print(f"{len(faults)} faults; {folder}")
    return 1 if faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; default: all")
    parser.add_argument("--full", action="store_true", help="as many moments as a release must pass")
    parser.add_argument("--moments", metavar="17|0-49", type=_moments, help="only these of each kind")
    parser.add_argument("--folder", type=Path, help="where to work; what was at fault stays there")
    options = parser.parse_args()
    if unknown := set(options.kinds) - set(KINDS):
        parser.error(f"no kind {', '.join(unknown)}; there are {', '.join(KINDS)}")
    return options


def _moments(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


sys.exit(main())
