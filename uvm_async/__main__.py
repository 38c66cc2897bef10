"""`python -m uvm_async` is the command `uvm`."""

import sys

from uvm_async.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
