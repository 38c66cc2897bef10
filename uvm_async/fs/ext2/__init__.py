"""ext2: our own, in asynchronous Python. docs/ext2.md tells how it hangs together."""
