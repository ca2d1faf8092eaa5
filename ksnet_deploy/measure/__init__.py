"""How good, and how fast.

- ``front.py``: ``evaluate`` with settings as users give them
- ``evaluation.py``, ``protocols.py``: benchmarks of quality, by the field's protocols
- ``compare.py``, ``pairing.py``, ``layout.py``: two versions of a video against each other; which frames belong
  together; both shown in one
- ``preview/``, ``pages/``: a film before it is upscaled; pages and sheets of pictures
- ``speed.py``: the step and the whole way
- ``degradation.py``, ``warping.py``: BI, BD and bicubic; flicker
- ``plotting.py``, ``published.py``: plots; the paper's figures
"""
