"""Credentials: who a task is.

Linux: struct cred, credentials(7), capabilities(7).  Immutable: a change makes a
new object, so sharing between threads and across fork is free.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

__all__ = ["ALL_CAPABILITIES", "Cred"]

ALL_CAPABILITIES: Final = (1 << 41) - 1
KEEP = -1


@dataclass(frozen=True, slots=True)
class Cred:
    """User and group ids (real, effective, saved, file system), groups, capability set."""

    uid: int = 0
    euid: int = 0
    suid: int = 0
    fsuid: int = 0
    gid: int = 0
    egid: int = 0
    sgid: int = 0
    fsgid: int = 0
    groups: tuple[int, ...] = ()
    capabilities: int = ALL_CAPABILITIES
    """Effective set."""
    permitted: int = ALL_CAPABILITIES
    keep_caps: bool = False
    no_new_privs: bool = False

    def with_uids(self, uid: int = KEEP, euid: int = KEEP, suid: int = KEEP) -> Cred:
        """New user ids (-1 keeps); capabilities follow as capabilities(7) says for set*uid."""
        new = replace(
            self,
            uid=self.uid if uid == KEEP else uid,
            euid=self.euid if euid == KEEP else euid,
            suid=self.suid if suid == KEEP else suid,
        )
        new = replace(new, fsuid=new.euid)
        had_root = 0 in (self.uid, self.euid, self.suid)
        has_root = 0 in (new.uid, new.euid, new.suid)
        if had_root and not has_root and not self.keep_caps:
            new = replace(new, capabilities=0, permitted=0)
        elif self.euid == 0 and new.euid != 0:
            new = replace(new, capabilities=0)
        elif self.euid != 0 and new.euid == 0:
            new = replace(new, capabilities=new.permitted)
        return new

    def with_gids(self, gid: int = KEEP, egid: int = KEEP, sgid: int = KEEP) -> Cred:
        """New group ids (-1 keeps)."""
        new = replace(
            self,
            gid=self.gid if gid == KEEP else gid,
            egid=self.egid if egid == KEEP else egid,
            sgid=self.sgid if sgid == KEEP else sgid,
        )
        return replace(new, fsgid=new.egid)

    def capable(self, number: int) -> bool:
        """Holds CAP_* `number` effectively."""
        return bool(self.capabilities >> number & 1)
