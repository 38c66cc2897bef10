"""overlay: a tree that a guest may change everything of, over one that never changes.

Linux: fs/overlayfs.
"""

from uvm_async.fs.overlay.super import OverlaySuperBlock, mount_overlay

__all__ = ["OverlaySuperBlock", "mount_overlay"]
