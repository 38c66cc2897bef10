"""The package as others see it: its names, its weight, its numbers, what a wheel holds."""

from __future__ import annotations

import ast
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import uvm_async
from uvm_async._host import ffi, lib

ROOT = Path(__file__).parent.parent
ABI = ROOT / "cshim" / "include" / "uvm_abi.h"


def printed(program: str, *, env: dict[str, str] | None = None, flags: str = "-I") -> list[str]:
    """What a Python program prints, in an interpreter of its own, word by word."""
    command = [sys.executable, flags, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# -- the front


def test_docstring_lists_the_public_names() -> None:
    match = re.search(r"Public names: (.*?)\.", uvm_async.__doc__ or "", re.DOTALL)
    assert match is not None
    assert sorted(match[1].replace("\n", " ").split(", ")) == sorted(uvm_async.__all__)


def test_every_public_name_is_there_and_no_other() -> None:
    for name in uvm_async.__all__:
        assert getattr(uvm_async, name) is not None
    assert sorted(uvm_async.__all__) == dir(uvm_async)
    with pytest.raises(AttributeError, match="no attribute 'Machines'"):
        _ = uvm_async.Machines


def test_import_is_light() -> None:
    loaded = printed("import sys, uvm_async; print(*sys.modules)")
    heavy = ("asyncio", "cffi", "ctypes", "structlog", "uvloop", "click", "socket", "threading")
    assert not set(heavy) & set(loaded)
    ours = [name for name in loaded if name.startswith("uvm_async.")]
    assert ours == []


def test_import_starts_nothing() -> None:
    program = """
import os
def seen():
    return [os.listdir("/proc/self/task"), len(os.listdir("/proc/self/fd")),
            open(f"/proc/self/task/{os.getpid()}/children").read(),
            [l for l in open("/proc/self/status") if l[:6] in ("SigBlk", "SigIgn", "SigCgt")]]
before = seen()
import uvm_async
for name in uvm_async.__all__:
    getattr(uvm_async, name)
print(before == seen())
"""
    assert printed(program) == ["True"]


def test_package_is_typed() -> None:
    assert (ROOT / "uvm_async" / "py.typed").exists()


# -- numbers


def host_calls() -> dict[str, int]:
    """The system calls that the host's C headers name."""
    source = "#include <asm/unistd_64.h>\n"
    command = ["gcc", "-E", "-dM", "-x", "c", "-"]
    text = subprocess.run(command, input=source, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", text, re.MULTILINE)
    return {name: int(number) for name, number in found}


def test_system_call_numbers_are_the_hosts() -> None:
    from uvm_async.syscalls.numbers import X86_64

    host = host_calls()
    assert len(host) > 300
    both = sorted(host.keys() & X86_64.keys())
    assert {name: X86_64[name] for name in both} == {name: host[name] for name in both}
    assert len(both) > 300
    assert len(set(X86_64.values())) == len(X86_64)


def abi_constants() -> dict[str, int]:
    """The plain numbers that the ABI header defines."""
    found = re.findall(r"^#define (UVM_\w+)\s+(0x[0-9a-f]+|\d+)", ABI.read_text(), re.MULTILINE)
    return {name: int(value, 0) for name, value in found}


def test_python_sees_every_constant_of_the_abi_header() -> None:
    constants = abi_constants()
    assert len(constants) > 40
    assert {name: getattr(lib, name) for name in constants} == constants


def test_layout_of_a_stub_fits_together() -> None:
    assert lib.UVM_PAGE_SIZE == 1 << lib.UVM_PAGE_SHIFT
    assert ffi.sizeof("struct uvm_mailbox") <= lib.UVM_PAGE_SIZE
    assert lib.UVM_MMAP_MIN_ADDR < lib.UVM_TASK_SIZE < lib.UVM_WINDOW < lib.UVM_SHIM_BASE
    assert lib.UVM_SHIM_BASE < lib.UVM_SLOT_BASE < 1 << 47
    assert lib.UVM_SLOT_SIZE % lib.UVM_PAGE_SIZE == 0


def test_python_names_no_abi_number_itself() -> None:
    """A number that both halves know is written once, in the header."""
    large = {value for value in abi_constants().values() if value > 1 << 20}
    for path in (ROOT / "uvm_async").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, int):
                assert node.value not in large, f"{path}:{node.lineno}"


# -- what is shipped


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An sdist, and a wheel made from it: without network, by this interpreter."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-I", "-m", "build", "--no-isolation", "--outdir", str(folder)]
    built = subprocess.run(
        [*command, f"-Cbuild-dir={folder}/build", str(ROOT)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def files_in_tree() -> set[str]:
    """Every file of the package (modules, C of the benchmarks), relative to the checkout."""
    files = [path for path in (ROOT / "uvm_async").rglob("*") if path.is_file()]
    made = ("__pycache__", ".so")
    return {str(p.relative_to(ROOT)) for p in files if not any(part in str(p) for part in made)}


@pytest.mark.timeout(120)
def test_wheel_carries_the_extension_and_the_stub(shipped: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(shipped[1]) as wheel:
        names = set(wheel.namelist())
        (extension,) = [name for name in names if name.endswith(".so")]
        assert extension == "uvm_async/_host" + sysconfig.get_config_var("EXT_SUFFIX")
        # The stub, a static ELF executable, lies inside it as it is.
        stub = wheel.read(extension).count(b"\x7fELF\x02\x01\x01")
    assert stub >= 2
    assert files_in_tree() <= names
    strangers = [n for n in names if not n.startswith(("uvm_async/", "uvm_async-"))]
    assert strangers == []
    assert platform.machine() in shipped[1].name


@pytest.mark.timeout(120)
def test_sdist_carries_all_that_a_build_and_the_tests_need(shipped: tuple[Path, Path]) -> None:
    with tarfile.open(shipped[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    sources = {
        str(path.relative_to(ROOT))
        for pattern in ("*.c", "*.h", "*.S", "*.ld", "*.py", "CMakeLists.txt")
        for path in (ROOT / "cshim").rglob(pattern)
    }
    assert sources <= names
    assert files_in_tree() <= names
    assert {"LICENSE", "README.md", "pyproject.toml", "tests/conftest.py"} <= names
    assert not [name for name in names if name.endswith(".so") or name.startswith("build/")]


@pytest.mark.machine
@pytest.mark.timeout(120)
def test_wheel_runs_a_machine_where_there_is_no_compiler(
    shipped: tuple[Path, Path], tmp_path: Path
) -> None:
    with zipfile.ZipFile(shipped[1]) as wheel:
        wheel.extractall(tmp_path)
    program = f"""
import sys
sys.path[:0] = [{str(tmp_path)!r}, {sysconfig.get_path("platlib")!r}]
import asyncio, shutil, uvm_async
async def main():
    async with uvm_async.Machine() as m:
        return await m.run(["/bin/busybox", "echo", "from", "a", "wheel"])
print(shutil.which("gcc"), uvm_async.__file__.startswith({str(tmp_path)!r}))
print(asyncio.run(main()).stdout.decode())
"""
    # -S: without site there is no editable installation to take precedence.
    words = printed(program, env={"PATH": str(tmp_path)}, flags="-IS")
    assert words == ["None", "True", "from", "a", "wheel"]
