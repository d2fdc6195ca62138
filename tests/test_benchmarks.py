import re
import time

from benchmarks import Benchmark
from benchmarks.__main__ import collect, measure, table


def test_every_benchmark_agrees_with_its_peer_and_is_named_by_its_module():
    names = [benchmark.name for benchmark in collect()]  # making one compares the two results
    assert "metrics/map/sklearn" in names
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+/[a-z0-9-]+/[a-z0-9-]+", name)] == []


def test_the_ratio_is_above_one_where_ours_is_faster():
    row = measure(Benchmark("a/b/c", lambda: time.sleep(0.002), lambda: time.sleep(0.02)), runs=3)
    assert row["ours"] >= 0.002 and row["peer"] >= 0.02
    assert 1 < row["ratio_min"] <= row["ratio"]
    assert set(row) == {"name", "ratio", "ratio_min", "ours", "peer", "n"}
    assert f"| a/b/c | {row['ratio']} |" in table([row])
