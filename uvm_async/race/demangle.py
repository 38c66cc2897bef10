"""Names of C++ as their programmers wrote them.

The host's own C++ library knows how (`__cxa_demangle`); where there is none, names stay as the
linker has them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache

__all__ = ["demangle"]


@lru_cache(maxsize=1)
def _demangler() -> Callable[..., int | None] | None:
    try:
        function = ctypes.CDLL("libstdc++.so.6").__cxa_demangle
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    return function


@lru_cache(maxsize=65536)
def demangle(name: str) -> str:
    """A C++ name as its programmer wrote it, if the host has a C++ library to ask."""
    if not name.startswith("_Z"):
        return name
    function = _demangler()
    if function is None:
        return name
    status = ctypes.c_int()
    text = function(name.encode(), None, None, ctypes.byref(status))
    if not text:
        return name
    try:
        return ctypes.string_at(text).decode("utf-8", "replace")
    finally:
        free = ctypes.CDLL(None).free
        free.argtypes = [ctypes.c_void_p]
        free(text)
