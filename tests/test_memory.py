import subprocess
import sys

import pytest

FAULTS = """
import resource
from mlic_core.study.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytearray(b"x") * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory(), faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is what is changed")
def test_memory_that_was_freed_is_used_again():
    """Twenty blocks of 64 MB, one after the other: pages come once, not with every block."""
    out = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True).stdout.split()
    before, done, after = int(out[0]), out[1], int(out[2])
    if done == "False":
        pytest.skip("no glibc")
    assert after < before / 5
