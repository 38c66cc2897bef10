"""What the command says besides the program's output: structlog, on standard error."""

from __future__ import annotations

__all__ = ["configure_logs"]


def configure_logs(verbose: int) -> None:
    """Warnings only, as the package does by itself; with `verbose` 1 what is of note, 2 all.

    structlog is not imported until there is a need.
    """
    if not verbose:
        return
    import os
    import sys

    import structlog

    level = 20 if verbose == 1 else 10  # logging.INFO, logging.DEBUG
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(
                colors=os.isatty(2), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
