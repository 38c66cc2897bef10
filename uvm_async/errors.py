"""Errors, by whose mistake they are.

A guest's mistake is an `Errno`: raised anywhere below a system call, it becomes
the call's negative result (`raise Errno.ENOENT`).  A user's mistake is a
`UsageError`: one line that says what to do.  A machine that cannot go on raises
`MachineError` at whoever embeds it.  Everything else is a bug of ours and ends
the machine with a traceback.

Source of the numbers: the host's own <errno.h>, through the standard library.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import ClassVar

__all__ = ["Errno", "MachineError", "UsageError", "from_oserror"]


class Errno(Exception):
    """A guest-visible error. Subclasses hang off this class under their Linux names."""

    errno: ClassVar[int] = 0
    EPERM: ClassVar[type[Errno]]
    ENOENT: ClassVar[type[Errno]]
    ESRCH: ClassVar[type[Errno]]
    EINTR: ClassVar[type[Errno]]
    EIO: ClassVar[type[Errno]]
    ENXIO: ClassVar[type[Errno]]
    E2BIG: ClassVar[type[Errno]]
    ENOEXEC: ClassVar[type[Errno]]
    EBADF: ClassVar[type[Errno]]
    ECHILD: ClassVar[type[Errno]]
    EAGAIN: ClassVar[type[Errno]]
    ENOMEM: ClassVar[type[Errno]]
    EACCES: ClassVar[type[Errno]]
    EFAULT: ClassVar[type[Errno]]
    ENOTBLK: ClassVar[type[Errno]]
    EBUSY: ClassVar[type[Errno]]
    EEXIST: ClassVar[type[Errno]]
    EXDEV: ClassVar[type[Errno]]
    ENODEV: ClassVar[type[Errno]]
    ENOTDIR: ClassVar[type[Errno]]
    EISDIR: ClassVar[type[Errno]]
    EINVAL: ClassVar[type[Errno]]
    ENFILE: ClassVar[type[Errno]]
    EMFILE: ClassVar[type[Errno]]
    ENOTTY: ClassVar[type[Errno]]
    ETXTBSY: ClassVar[type[Errno]]
    EFBIG: ClassVar[type[Errno]]
    ENOSPC: ClassVar[type[Errno]]
    ESPIPE: ClassVar[type[Errno]]
    EROFS: ClassVar[type[Errno]]
    EMLINK: ClassVar[type[Errno]]
    EPIPE: ClassVar[type[Errno]]
    EDOM: ClassVar[type[Errno]]
    ERANGE: ClassVar[type[Errno]]
    EDEADLK: ClassVar[type[Errno]]
    ENAMETOOLONG: ClassVar[type[Errno]]
    ENOLCK: ClassVar[type[Errno]]
    ENOSYS: ClassVar[type[Errno]]
    ENOTEMPTY: ClassVar[type[Errno]]
    ELOOP: ClassVar[type[Errno]]
    ENODATA: ClassVar[type[Errno]]
    ETIME: ClassVar[type[Errno]]
    EPROTO: ClassVar[type[Errno]]
    EBADMSG: ClassVar[type[Errno]]
    EOVERFLOW: ClassVar[type[Errno]]
    EILSEQ: ClassVar[type[Errno]]
    ELIBBAD: ClassVar[type[Errno]]
    EUSERS: ClassVar[type[Errno]]
    ENOTSOCK: ClassVar[type[Errno]]
    EDESTADDRREQ: ClassVar[type[Errno]]
    EMSGSIZE: ClassVar[type[Errno]]
    EPROTOTYPE: ClassVar[type[Errno]]
    ENOPROTOOPT: ClassVar[type[Errno]]
    EPROTONOSUPPORT: ClassVar[type[Errno]]
    ESOCKTNOSUPPORT: ClassVar[type[Errno]]
    EOPNOTSUPP: ClassVar[type[Errno]]
    EAFNOSUPPORT: ClassVar[type[Errno]]
    EADDRINUSE: ClassVar[type[Errno]]
    EADDRNOTAVAIL: ClassVar[type[Errno]]
    ENETUNREACH: ClassVar[type[Errno]]
    ECONNABORTED: ClassVar[type[Errno]]
    ECONNRESET: ClassVar[type[Errno]]
    ENOBUFS: ClassVar[type[Errno]]
    EISCONN: ClassVar[type[Errno]]
    ENOTCONN: ClassVar[type[Errno]]
    ETIMEDOUT: ClassVar[type[Errno]]
    ECONNREFUSED: ClassVar[type[Errno]]
    EALREADY: ClassVar[type[Errno]]
    EINPROGRESS: ClassVar[type[Errno]]
    ESTALE: ClassVar[type[Errno]]
    EDQUOT: ClassVar[type[Errno]]
    ECANCELED: ClassVar[type[Errno]]
    EOWNERDEAD: ClassVar[type[Errno]]
    ENOTRECOVERABLE: ClassVar[type[Errno]]

    def __str__(self) -> str:
        detail = super().__str__()
        return f"{os.strerror(self.errno)}{': ' + detail if detail else ''}"


_BY_NUMBER: dict[int, type[Errno]] = {}


def _declare() -> None:
    for name in Errno.__annotations__:
        if name == "errno":
            continue
        number = getattr(_errno, name)
        cls = type(name, (Errno,), {"errno": number, "__module__": __name__})
        cls.__qualname__ = f"Errno.{name}"
        setattr(Errno, name, cls)
        _BY_NUMBER[number] = cls


_declare()


def from_oserror(error: OSError) -> Errno:
    """The guest's view of a host error met on its behalf. Unknown numbers are EIO."""
    return _BY_NUMBER.get(error.errno or 0, Errno.EIO)(error.strerror or "")


class UsageError(Exception):
    """A user's mistake; the text is one line and says what to do."""


class MachineError(Exception):
    """The machine itself failed; it is shut down."""
