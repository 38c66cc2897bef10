"""Standard input, output and error of a program, on their way between guest and embedder."""

from uvm_async.stdio.pipes import GuestStdin
from uvm_async.stdio.streams import CONSOLE, DEVNULL, PIPE, STDOUT, Streams

__all__ = ["CONSOLE", "DEVNULL", "PIPE", "STDOUT", "GuestStdin", "Streams"]
