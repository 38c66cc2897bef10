"""asyncio: tasks, subprocesses, streams over a Unix socket, signals, timeouts, a thread."""

import asyncio
import os
import signal


async def main():
    results = await asyncio.gather(*(asyncio.sleep(0.01 * (5 - i), i) for i in range(5)))
    print(results)
    p = await asyncio.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    print(await p.communicate(b"through a subprocess"), p.returncode)
    many = await asyncio.gather(*(asyncio.create_subprocess_shell(f"exit {i}") for i in range(10)))
    print([await p.wait() for p in many])

    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    server = await asyncio.start_unix_server(serve, "socket")

    async def talk(n):
        reader, writer = await asyncio.open_unix_connection("socket")
        writer.write(b"line %d\n" % n * 3)
        writer.write_eof()
        data = await reader.read()
        writer.close()
        return data

    print(sorted(await asyncio.gather(*(talk(n) for n in range(5)))))
    server.close()
    got = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, got.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.wait_for(got.wait(), 30)
    print("signal")
    try:
        await asyncio.wait_for(asyncio.sleep(100), 0.02)
    except TimeoutError:
        print("timeout")
    print(await asyncio.to_thread(sum, range(1000)))
    task = asyncio.create_task(asyncio.sleep(100))
    await asyncio.sleep(0)
    task.cancel()
    print(await asyncio.gather(task, return_exceptions=True))


asyncio.run(main())
