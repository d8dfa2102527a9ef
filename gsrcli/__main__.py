"""The command ``gsr``, and ``python -m gsrcli``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run ``gsr``. Ctrl-C is quiet, and a lack of memory is told, from the first import on."""
    try:
        from gsrcli.runtime.threads import configure

        configure()
        from gsrcli.cli import app

        app.main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (ImportError, MemoryError) as error:  # before a command, and its way to report errors, is there
        if "--debug" in sys.argv:
            raise
        sys.exit(f"error: gsr cannot start: {str(error) or 'memory ran out'}")


if __name__ == "__main__":
    main()
