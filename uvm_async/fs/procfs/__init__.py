"""procfs: processes and the machine, as files. Linux: fs/proc, proc(5)."""

from uvm_async.fs.procfs.super import ProcSuperBlock, mount_proc, proc_super_block

__all__ = ["ProcSuperBlock", "mount_proc", "proc_super_block"]
