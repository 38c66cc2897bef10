"""The programs that do the measuring, compiled where they are needed.

They must be static (a machine's root may have no libraries) and the same binary
must run on both sides, so they are built from source at each run: a second.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from uvm_async.errors import UsageError

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Programs"]

FLAGS: Final = ("-O2", "-std=gnu11", "-static", "-pthread")


class Programs:
    """A directory with `micro` and `floor` in it, while the context lasts.

    Raises UsageError where there is no C compiler or no static C library.
    """

    def __init__(self) -> None:
        self.directory = ""
        self.micro = ""
        self.floor = ""

    def __enter__(self) -> Self:
        self.directory = tempfile.mkdtemp(prefix="uvm-bench-")
        try:
            os.chmod(self.directory, 0o755)
            self.micro = self._build("micro")
            self.floor = self._build("floor")
        except BaseException:
            shutil.rmtree(self.directory)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.directory)

    def _build(self, name: str) -> str:
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise UsageError("measuring needs a C compiler: install gcc, or set CC")
        target = str(Path(self.directory, name))
        source = resources.files("uvm_async.bench").joinpath("programs", f"{name}.c")
        with resources.as_file(source) as path:
            done = subprocess.run(
                [compiler, *FLAGS, "-o", target, str(path)],
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            first = next((s for s in done.stderr.splitlines() if "error" in s), done.stderr.strip())
            raise UsageError(f"cannot build {name}.c for measuring: {first}")
        return target
