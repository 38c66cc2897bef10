"""The host library under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
HOST = ROOT / "cshim" / "host"
SOURCES = [
    ROOT / "tests" / "host" / "sanitize.c",
    *(HOST / name for name in ("frames.c", "pgtable.c", "uaccess.c", "race.c")),
]
FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]


def test_random_operations_are_clean_under_sanitizers(tmp_path: Path) -> None:
    program = tmp_path / "sanitize"
    include = f"-I{ROOT / 'cshim' / 'include'}"
    command = ["gcc", *FLAGS, "-fno-sanitize-recover=all", include, *map(str, SOURCES)]
    subprocess.run([*command, "-o", str(program)], check=True)
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "clean\n"), done.stderr
