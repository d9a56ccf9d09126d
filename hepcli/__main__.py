"""`python -m hepcli` is `hep`."""

from hepcli.cli import main

main()
