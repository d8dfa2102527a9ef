"""The command ``gsr``, and ``python -m gsrcli``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run ``gsr``. Ctrl-C is quiet from the first import on."""
    try:
        from gsrcli.cli import app

        app.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
