"""The cffi binding of the host library, generated at build time (cffi.gen_src)."""

import re
from pathlib import Path

from cffi import FFI

INCLUDE = Path(__file__).parent / "include"


def declarations(header: str) -> str:
    """What stands between the CFFI markers, constants without their comments."""
    text = (INCLUDE / header).read_text()
    body = text.split("/* BEGIN CFFI */")[1].split("/* END CFFI */")[0]
    return re.sub(r"^(#define UVM_\w+ \w+).*$", r"\1", body, flags=re.M)


ffibuilder = FFI()
for name in ("uvm_abi.h", "uvm_race.h", "uvm_host.h"):
    ffibuilder.cdef(declarations(name))
ffibuilder.set_source("uvm_async._host", '#include "uvm_host.h"')
