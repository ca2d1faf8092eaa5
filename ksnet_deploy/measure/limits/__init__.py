"""The least time that a step can take: a roofline from the exported graph.

- ``work.py``: operations and bytes of each layer
- ``peaks.py``: what this machine computes and copies at most, measured
- ``cards.py``: the same of GPUs by their makers' figures
- ``floor.py``: the floor that follows
"""
