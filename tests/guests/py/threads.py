"""threading: locks, conditions, queues, events, timers, a pool; thread-local data."""

import queue
import threading
from concurrent.futures import ThreadPoolExecutor

lock, total = threading.Lock(), 0


def count():
    global total
    for _ in range(2000):
        with lock:
            total += 1


threads = [threading.Thread(target=count) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(total)
q, done = queue.Queue(5), queue.Queue()


def work():
    while (item := q.get()) is not None:
        done.put(item * item)


workers = [threading.Thread(target=work) for _ in range(4)]
[w.start() for w in workers]
for i in range(200):
    q.put(i)
for _ in workers:
    q.put(None)
[w.join() for w in workers]
print(sum(done.get() for _ in range(200)))
event = threading.Event()
threading.Timer(0.02, event.set).start()
print(event.wait(30), event.is_set())
barrier, order = threading.Barrier(5), []


def meet():
    barrier.wait()
    order.append(1)


group = [threading.Thread(target=meet) for _ in range(5)]
[t.start() for t in group]
[t.join() for t in group]
print(len(order))
with ThreadPoolExecutor(6) as pool:
    print(sum(pool.map(lambda n: n * 2, range(500))))
local = threading.local()
local.x = 1
t = threading.Thread(target=lambda: print(hasattr(local, "x")))
t.start()
t.join()
