"""Files, mmap, tempfile, shutil, zipfile, pickles, os.walk, locks."""

import fcntl
import json
import mmap
import os
import pickle
import shutil
import tempfile
import zipfile

with open("f", "wb") as f:
    f.write(bytes(range(256)) * 100)
with open("f", "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
    print(len(m), m[300], m.find(b"\x10\x11"))
    m[0:4] = b"MMAP"
    m.flush()
with open("f", "rb") as f:
    print(f.read(6))
os.makedirs("a/b/c")
shutil.copy("f", "a/b/g")
shutil.copytree("a", "copy")
print([(d, sorted(s), sorted(fs)) for d, s, fs in sorted(os.walk("."))])
with zipfile.ZipFile("z.zip", "w", zipfile.ZIP_DEFLATED) as z:
    z.write("f")
    z.writestr("text", "hello")
with zipfile.ZipFile("z.zip") as z:
    print(z.namelist(), z.testzip(), z.read("text"))
with tempfile.TemporaryDirectory(dir=".") as t:
    print(os.path.isdir(t))
print(os.path.exists(t), pickle.loads(pickle.dumps({1: [2, (3,)]})), json.dumps({"a": [1, None]}))
with open("l", "w") as a, open("l") as b:
    fcntl.flock(a, fcntl.LOCK_EX)
    try:
        fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        print(error.strerror)
shutil.rmtree("copy")
os.replace("l", "m")
print(sorted(os.listdir(".")), os.stat("f").st_size)
with open("/proc/self/comm") as f:
    print(f.read().strip() != "")
