"""The package's logger: structlog, imported when there is something to say.

Where the embedding program has configured structlog, that is what is used;
otherwise warnings and worse go to standard error, and nothing ever to standard
output, which belongs to the guest's programs and the embedder.

structlog would be a fifth of the time that a machine takes to import (with rich
installed, which it then imports too), in programs that never log a line; who has
not imported it cannot have asked for more than warnings.
"""

from __future__ import annotations

import sys
from typing import Any, Final

__all__ = ["Log", "log"]

WARNING: Final = 30
"""logging.WARNING"""


class Log:
    """Forwards to structlog, deciding at the time of the event."""

    def debug(self, event: str, **values: Any) -> None:
        """For whoever looks into the kernel itself."""
        if "structlog" in sys.modules:
            _logger().debug(event, **values)

    def info(self, event: str, **values: Any) -> None:
        """Nothing is wrong."""
        if "structlog" in sys.modules:
            _logger().info(event, **values)

    def warning(self, event: str, **values: Any) -> None:
        """The guest or its files are in trouble; the machine is not."""
        _logger().warning(event, **values)

    def error(self, event: str, **values: Any) -> None:
        """The machine is in trouble."""
        _logger().error(event, **values)


def _logger() -> Any:
    import structlog

    if structlog.is_configured():
        return structlog.get_logger("uvm_async")
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(WARNING),
        processors=[
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ],
    )


log = Log()
