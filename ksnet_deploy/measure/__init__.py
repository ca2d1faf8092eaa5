"""Measuring: how good a network's pictures are, and how fast it is.

- ``front.py``: ``evaluate`` with settings as users give them
- ``evaluation.py``, ``protocols.py``: benchmarks of quality, by the field's protocols
- ``compare.py``, ``pairing.py``, ``layout.py``: two versions of a video against each other; which frames belong
  together; both shown in one
- ``speed/``: the step and the whole way, in every runtime of this machine
- ``limits/``: the least time that a step can take
- ``memory.py``: what measuring takes
- ``degradation.py``, ``warping.py``: BI, BD and bicubic; flicker
- ``plotting.py``, ``published.py``: plots; the paper's figures
"""
