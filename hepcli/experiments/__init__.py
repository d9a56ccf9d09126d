"""One plain function per subcommand: no Typer, no Rich."""
