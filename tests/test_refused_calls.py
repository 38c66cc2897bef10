"""Calls that are refused on purpose are declared, with an error and a reason."""

from __future__ import annotations

import re

import pytest

from uvm_async.errors import Errno
from uvm_async.syscalls.dispatch import load_all
from uvm_async.syscalls.table import SyscallDef

CALLS = {entry.call.name: entry.call for entry in load_all().values()}
REFUSED = [call for call in CALLS.values() if call.refused]


@pytest.mark.parametrize("call", REFUSED, ids=lambda call: call.name)
def test_a_refused_call_raises_its_error_and_says_why_in_a_sentence(call: SyscallDef) -> None:
    with pytest.raises(getattr(Errno, call.refused)):
        call.handler(None)
    assert re.fullmatch(r"[A-Z].*[^.]\.", call.missing)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("rseq", "ENOSYS"),
        ("io_uring_setup", "ENOSYS"),
        ("bpf", "EPERM"),
        ("ptrace", "EPERM"),
        ("init_module", "EPERM"),
        ("userfaultfd", "ENOSYS"),
        ("keyctl", "ENOSYS"),
        ("name_to_handle_at", "EOPNOTSUPP"),
        ("swapon", "EPERM"),
        ("nfsservctl", "ENOSYS"),
    ],
)
def test_programs_meet_the_error_they_know_how_to_go_on_from(name: str, error: str) -> None:
    assert CALLS[name].refused == error
