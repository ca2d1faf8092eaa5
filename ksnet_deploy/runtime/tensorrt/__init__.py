"""Engines: what they are, and running them.

- ``runner.py``: runs an engine
- ``runtime_cache.py``: kernels that TensorRT-RTX compiled
- ``cuda.py``: device memory, streams and graphs
- ``sidecar.py``, ``spec.py``: the description beside an engine; what is asked for
- ``target.py``: GPUs, sizes and flavours of TensorRT
"""
