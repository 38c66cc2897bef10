"""devfs: /dev. Linux: drivers/base/devtmpfs.c."""

from uvm_async.fs.devfs.super import DevSuperBlock, devfs, register_device

__all__ = ["DevSuperBlock", "devfs", "register_device"]
