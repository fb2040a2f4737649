import gc
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
        gc.unfreeze()
        gc.set_threshold(*before[0])
        sys.setswitchinterval(before[1])
