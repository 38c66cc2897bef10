"""tmpfs: files that live in the page cache and nowhere else. Linux: mm/shmem.c."""

from uvm_async.fs.tmpfs.super import TmpfsSuperBlock, mount_tmpfs

__all__ = ["TmpfsSuperBlock", "mount_tmpfs"]
