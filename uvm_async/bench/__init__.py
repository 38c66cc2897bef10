"""Measuring: one operation in a machine, beside the least it could cost.

programs/   C: `micro` (the same static binary runs in a machine and on the host)
            and `floor` (the mechanism without a Python kernel)
build       compiles them, once per run
host        what this host is, and holding still on one CPU of it
samples     what a run's samples say: percentiles
contest     contestants measured in turn, round by round; what is steady
figures     the figures of `uvm bench`, each with its floor and bound
phases      where a null call spends its time
report      text, JSON, and two runs compared
"""
