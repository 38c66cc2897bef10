"""subprocess: pipes, statuses, timeouts, signals, sessions, preexec, many at once."""

import os
import signal
import subprocess
import sys

print(subprocess.run(["echo", "hello"], capture_output=True).stdout)
print(subprocess.run("exit 3", shell=True).returncode)
print(subprocess.run(["cat"], input=b"x" * 200000, capture_output=True).stdout == b"x" * 200000)
try:
    subprocess.run(["sleep", "100"], timeout=0.1)
except subprocess.TimeoutExpired as error:
    print("timeout", error.cmd)
p = subprocess.Popen(["sleep", "100"])
p.send_signal(signal.SIGTERM)
print(p.wait())
try:
    subprocess.run(["/nonexistent/program"])
except FileNotFoundError as error:
    print(error.strerror, error.filename)
p = subprocess.Popen(
    [sys.executable, "-c", "import os; print(os.getsid(0) == os.getpid())"],
    start_new_session=True,
    stdout=subprocess.PIPE,
)
print(p.communicate()[0])
print(subprocess.run(["pwd"], cwd="/", capture_output=True, preexec_fn=lambda: os.umask(0)).stdout)
print(subprocess.run(["env"], env={"ONLY": "this"}, capture_output=True).stdout)
many = [subprocess.Popen(["sh", "-c", f"exit {i}"]) for i in range(20)]
print([p.wait() for p in many])
print(subprocess.check_output("sort | head -n 2", shell=True, input=b"c\nb\na\n", text=False))
pid = os.fork()
if pid == 0:
    os._exit(5)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(os.popen("echo popen").read())
