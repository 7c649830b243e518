"""Whether training in bf16 is as accurate as in float32: whole runs of cnn.yaml, and a test.

Five seeds of twelve epochs each take half an hour to an hour on two cores.
"""

from __future__ import annotations

from benchmarks import accuracy, trainings

OPTIONS = trainings.options(("cnn", "cnn+bf16"), seeds=5)
measure = trainings.measure
table = accuracy.table
