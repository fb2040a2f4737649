"""The real proxy in a world of its own: memory streams, a clock that jumps, a disk and a network that fail by seed.

python -m tests.faults.simulation --seeds 1000
python -m tests.faults.simulation --seed 17 --verbose
"""
