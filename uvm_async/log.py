"""The package's log: structlog, imported when there is something to say.

Half of the machine's import time would be structlog's, in programs that never
log a line.  What an embedder that has not imported structlog cannot have asked
for (info) is dropped; warnings and errors go to standard error then, as structlog
goes to standard output unless configured.
"""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["log"]

NAME = "uvm_async"


class Log:
    """Stateless: where a message goes is structlog's configuration, now."""

    def info(self, event: str, **context: Any) -> None:
        """For whoever has asked to hear more."""
        if "structlog" in sys.modules:
            _logger().info(event, **context)

    def warning(self, event: str, **context: Any) -> None:
        """Something that a user should know of."""
        _logger().warning(event, **context)

    def error(self, event: str, **context: Any) -> None:
        """The machine cannot go on, or not as asked."""
        _logger().error(event, **context)


def _logger() -> Any:
    import structlog

    if structlog.is_configured():
        return structlog.get_logger(NAME)
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger("warning"),
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
    )


log = Log()
