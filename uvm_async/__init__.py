"""uvm_async."""
