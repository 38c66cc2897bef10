"""Two threads add to one total: `racing_module.py DIRECTORY`, where racing_module.so lies."""

import sys
import threading

sys.path.insert(0, sys.argv[1])
import racing_module  # type: ignore[import-not-found]

threads = [threading.Thread(target=racing_module.add, args=(n,)) for n in (1, 2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert racing_module.total() == 3, racing_module.total()
print("total", racing_module.total())
