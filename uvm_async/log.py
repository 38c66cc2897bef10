"""The package's logger.

Where the embedding program has configured structlog, that is what is used;
otherwise warnings and worse go to standard error, and nothing ever to standard
output, which belongs to the guest's programs and the embedder.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

__all__ = ["Log", "log"]


class Log:
    """Forwards to structlog, deciding at the time of the event."""

    def _logger(self) -> Any:
        if structlog.is_configured():
            return structlog.get_logger("uvm_async")
        return structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        )

    def debug(self, event: str, **values: Any) -> None:
        """For whoever looks into the kernel itself."""
        self._logger().debug(event, **values)

    def info(self, event: str, **values: Any) -> None:
        """Nothing is wrong."""
        self._logger().info(event, **values)

    def warning(self, event: str, **values: Any) -> None:
        """The guest or its files are in trouble; the machine is not."""
        self._logger().warning(event, **values)

    def error(self, event: str, **values: Any) -> None:
        """The machine is in trouble."""
        self._logger().error(event, **values)


log = Log()
