"""What stubs ask of the host: nothing but the shim's own calls, as a tracer sees it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = [pytest.mark.machine, pytest.mark.fixed_machine]

SHIM_CALLS = {"mmap", "munmap", "futex", "rt_sigtimedwait", "rt_tgsigqueueinfo", "rt_sigreturn"}
SCRIPT = "echo a; ls / | wc -l; (exit 3); cat /etc/passwd > /tmp/x; sleep 0.01 & wait"


@pytest.mark.parametrize("transport", ["futex", "signal"])
def test_armed_stubs_make_no_host_calls_but_the_shims_own(transport: str, tmp_path: Path) -> None:
    log = tmp_path / "trace"
    uvm = [sys.executable, "-m", "uvm_async.cli.main", "run", "--trap", "sud"]
    command = [*uvm, "--transport", transport, "--", "/bin/busybox", "sh", "-c", SCRIPT]
    subprocess.run(["strace", "-f", "-o", log, *command], check=True, timeout=100)
    armed: set[str] = set()
    calls: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        pid, rest = line.split(None, 1)
        if "PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON" in rest or "prctl(0x3b, 0x1" in rest:
            armed.add(pid)
        elif pid in armed and (call := re.match(r"(\w+)\(", rest)):
            calls[call[1]] += 1
    assert len(armed) >= 6
    assert calls["rt_tgsigqueueinfo"] > 50 and calls["mmap"] > 50
    assert set(calls) <= SHIM_CALLS, calls
