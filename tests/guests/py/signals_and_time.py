"""signal and time from Python: handlers, alarms, itimers, sigwait, select, errors by signal."""

import os
import select
import signal
import threading
import time

hits = []
signal.signal(signal.SIGUSR1, lambda n, f: hits.append(signal.Signals(n).name))
os.kill(os.getpid(), signal.SIGUSR1)
signal.raise_signal(signal.SIGUSR1)
print(hits)
signal.signal(signal.SIGALRM, lambda n, f: (_ for _ in ()).throw(TimeoutError("alarm")))
signal.setitimer(signal.ITIMER_REAL, 0.02)
try:
    time.sleep(100)
except TimeoutError as error:
    print(error)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGUSR2)).start()
print(signal.sigwait({signal.SIGUSR2}).name)
r, w = os.pipe()
print(select.select([r], [w], [], 0)[0])
os.write(w, b"x")
print(select.select([r], [], [], 5)[0] == [r])
a = time.monotonic()
time.sleep(0.03)
print(time.monotonic() - a >= 0.03, time.time() > 1.6e9)
print(time.strftime("%Y-%m-%d", time.gmtime(0)))
try:
    ctypes = __import__("ctypes")
    pid = os.fork()
    if pid == 0:
        ctypes.string_at(0)
    print(os.waitpid(pid, 0)[1] & 127)
finally:
    print("end")
