"""hostfs: a directory of the host as a file system.

Linux: fs/hostfs (of User-Mode Linux), fs/overlayfs's idea of a lower layer.
"""

from uvm_async.fs.hostfs.super import HostSuperBlock, Sight, mount_hostfs

__all__ = ["HostSuperBlock", "Sight", "mount_hostfs"]
