"""Speed: every way that a machine has to run a network, side by side.

- ``bench.py``: the command's work, from what is asked for to the report
- ``subjects.py``, ``ways.py``: networks at sizes; runtimes and devices of this machine
- ``pace.py``: how long it will take, and keeping to it
- ``worker.py``, ``child.py``: what is measured of one way; in a process of its own
- ``measured.py``: a way while it is measured
- ``timing.py``, ``yardstick.py``: rounds of samples and their spread; the machine's own speed beside them
- ``layers.py``, ``limits.py``: shares of the layer types; the least time that a step could take
- ``card.py``: the GPU's name, driver, clocks and temperature
- ``report.py``, ``plot.py``: the result as table, values, CSV and picture
- ``surroundings.py``: instruction sets, threads, versions
- ``regression.py``: two results against each other
- ``frames.py``: frames to measure with
"""
