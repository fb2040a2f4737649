import gc
import resource
import sys

from mqttproxy import process


def test_the_machine_is_used_as_the_constants_say() -> None:
    before = gc.get_threshold(), sys.getswitchinterval()
    try:
        process.share_memory()
        process.share_interpreter()
        process.tidy_memory()
        assert gc.get_threshold() == process.GC_THRESHOLDS
        assert sys.getswitchinterval() == process.SWITCH_INTERVAL
    finally:
        gc.set_threshold(*before[0])
        sys.setswitchinterval(before[1])


def test_E6_as_many_descriptors_are_taken_as_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        process.take_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(before[1], process.MOST_DESCRIPTORS), before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
