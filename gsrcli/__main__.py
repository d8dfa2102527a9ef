"""``python -m gsrcli`` is ``gsr``."""

from gsrcli.cli.app import main

main()
