"""What a machine does, for people to read: observers (kernel/observer.py) and pictures.

`Machine(observers=[...])` takes `strace.Strace` (decoded system calls), `timeline.Timeline`
(a trace that Perfetto opens) and `picture.Switches` (who had which vCPU, as SVG).
"""
