"""The structures of the ABI are laid out as the C headers say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from uvm_async.fs.signalfd import SIGINFO
from uvm_async.syscalls.abi import DIRENT, DIRENT64, LAYOUTS
from uvm_async.syscalls.eventfds import ITIMERSPEC

ALL_LAYOUTS = {
    **LAYOUTS,
    "struct signalfd_siginfo": (
        "sys/signalfd.h",
        SIGINFO,
        (
            "ssi_signo",
            "ssi_errno",
            "ssi_code",
            "ssi_pid",
            "ssi_uid",
            "ssi_fd",
            "ssi_tid",
            "ssi_band",
            "ssi_overrun",
            "ssi_trapno",
            "ssi_status",
            "ssi_int",
            "ssi_ptr",
            "ssi_utime",
            "ssi_stime",
            "ssi_addr",
            "ssi_addr_lsb",
            "ssi_syscall",
            "ssi_call_addr",
            "ssi_arch",
        ),
    ),
    "struct itimerspec": (
        "time.h",
        ITIMERSPEC,
        ("it_interval.tv_sec", "it_interval.tv_nsec", "it_value.tv_sec", "it_value.tv_nsec"),
    ),
}


def offsets(struct_format: str) -> list[int]:
    """Where each value of a struct format begins."""
    import struct

    places: list[int] = []
    done = "<"
    count = ""
    for char in struct_format[1:]:
        if char.isdigit():
            count += char
            continue
        repeat, count = int(count or 1), ""
        if char == "x":
            done += f"{repeat}x"
            continue
        for _ in range(repeat):
            places.append(struct.calcsize(done))
            done += char
    return places


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[int]]:
    """Size and member offsets of every structure, from the C compiler."""
    directory = tmp_path_factory.mktemp("abi")
    lines = ["#define _GNU_SOURCE", "#include <stddef.h>", "#include <stdio.h>"]
    body: list[str] = []
    for name, (header, _, members) in ALL_LAYOUTS.items():
        lines.append(f"#include <{header}>")
        sizes = ", ".join(f"offsetof({name}, {member})" for member in members)
        body.append(
            f'{{ size_t v[] = {{ sizeof({name}), {sizes} }}; printf("%s", "{name}:");'
            ' for (size_t i = 0; i < sizeof v / sizeof *v; i++) printf(" %zu", v[i]);'
            ' printf("\\n"); }'
        )
    program = "\n".join([*lines, "int main(void) {", *body, "return 0; }"])
    (directory / "abi.c").write_text(program)
    subprocess.run(["cc", "-o", "abi", "abi.c"], cwd=directory, check=True)
    out = subprocess.run(
        [Path(directory, "abi")], capture_output=True, text=True, check=True
    ).stdout
    answers = (line.split(":") for line in out.splitlines())
    return {name: [int(number) for number in numbers.split()] for name, numbers in answers}


@pytest.mark.parametrize("name", ALL_LAYOUTS)
def test_structure_is_laid_out_as_in_c(name: str, headers: dict[str, list[int]]) -> None:
    _, struct, members = ALL_LAYOUTS[name]
    assert headers[name][0] == struct.size
    assert dict(zip(members, headers[name][1:], strict=True)) == dict(
        zip(members, offsets(struct.format), strict=True)
    )


def test_names_of_directory_entries_begin_where_the_headers_say() -> None:
    assert DIRENT64.size == 19
    assert DIRENT.size == 18
