"""Engines: what they are, and running them.

- ``runner.py``: runs an engine
- ``cuda.py``: device memory, streams and graphs
- ``sidecar.py``, ``target.py``: the description beside an engine; GPUs and flavours of TensorRT
"""
