"""Measuring: how good a network's pictures are, and how fast it is.

- ``front.py``: ``evaluate`` with settings as users give them
- ``evaluation.py``, ``protocols.py``: benchmarks of quality, by the field's protocols
- ``compare.py``, ``comparison.py``, ``pairing.py``: two versions of a video against each other; what was found; which
  frames belong together
- ``showing.py``, ``layout.py``, ``comparison_page.py``: what shows it; both in one picture; the page
- ``preview/``, ``inspection/``: a film before it is upscaled; what a network looks at
- ``pages/``: pages and sheets of pictures
- ``speed/``, ``speeds.py``: the step and the whole way, in every runtime of this machine; what was measured here
- ``limits/``: the least time that a step can take
- ``memory.py``: what measuring takes
- ``models.py``: the bundled networks
- ``degradation.py``, ``kernels.py``, ``variants.py``: BI, BD and bicubic; other reductions; LR as videos have it
- ``warping.py``: flicker
- ``plotting.py``, ``published.py``: plots; the paper's figures
"""
