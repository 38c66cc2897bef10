"""multiprocessing: fork and spawn, pools, queues, shared memory and locks."""

import multiprocessing as mp


def square(n):
    return n * n


def add(lock, value, count):
    for _ in range(count):
        with lock:
            value.value += 1


def main():
    with mp.get_context("fork").Pool(3) as pool:
        print(pool.map(square, range(20)))
    fork = mp.get_context("fork")
    value, lock = fork.Value("i", 0, lock=False), fork.Lock()
    processes = [fork.Process(target=add, args=(lock, value, 200)) for _ in range(4)]
    [p.start() for p in processes]
    [p.join() for p in processes]
    print(value.value, [p.exitcode for p in processes])
    queue = fork.Queue()
    p = fork.Process(target=queue.put, args=({"from": "child"},))
    p.start()
    print(queue.get(timeout=60))
    p.join()
    a, b = fork.Pipe()
    p = fork.Process(target=b.send, args=([1, 2, 3],))
    p.start()
    print(a.recv())
    p.join()
    with mp.get_context("spawn").Pool(1) as pool:
        print(pool.apply(square, (12,)))


if __name__ == "__main__":
    main()
