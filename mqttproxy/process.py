"""How the process uses its machine: the interpreter, the allocator and the garbage collector, set once at start."""

import ctypes
import gc
import linecache
import resource
import sys
from contextlib import suppress
from typing import Final

SWITCH_INTERVAL: Final = 0.0005  # seconds that one thread of Python may go on while another waits

MOST_DESCRIPTORS: Final = 1_048_576  # ten times `limits.connections` by default; some machines know no bound at all

_ARENA_MAX: Final = -8  # of glibc's mallopt

# When circles are looked for: among the youngest objects after so many new ones; among those that stayed since the
# last such look after so many looks at the youngest; among all after so many of those. A message makes about ten
# objects that live until it is acknowledged: to look every 700 objects, as Python does by default, costs a tenth of
# the throughput. A look takes up to 0.5 µs an object while all else waits: some 30 ms at most when thousands of
# devices connect. Devices that are gone leave no circles (a test holds them to it), so the look among all, which
# takes longer, is there for bugs.
GC_THRESHOLDS: Final = (10_000, 5, 1_000)


def take_machine() -> None:
    """Use the machine as a proxy should. First of all, before there are threads."""
    share_memory()
    share_interpreter()
    take_descriptors()


def share_interpreter() -> None:
    """Let the thread that commits have the interpreter soon: all that wait for the disk wait for it too."""
    sys.setswitchinterval(SWITCH_INTERVAL)


def share_memory() -> None:
    """Let all threads take memory from one arena; the few that write to disk would else keep one each."""
    with suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def take_descriptors() -> None:
    """Have as many descriptors as the process may: by default most systems give 1,024, one for each connection."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if most == resource.RLIM_INFINITY else min(most, MOST_DESCRIPTORS)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def tidy_memory() -> None:
    """Forget what only the start needed, and look no more at what stays."""
    linecache.clearcache()  # attrs and cattrs keep the source there of what they have generated
    gc.collect()
    gc.freeze()  # what is here now stays: no need to look at it again
    gc.set_threshold(*GC_THRESHOLDS)
    give_back_memory()  # up to 2 MB that only the start needed


def give_back_memory() -> None:
    """Give the system what the allocator keeps although nobody uses it. Takes milliseconds for each GB."""
    with suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
