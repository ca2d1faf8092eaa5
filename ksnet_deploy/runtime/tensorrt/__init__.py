"""Engines: what they are, and running them.

- ``engine.py``: an engine, checked and loaded
- ``runner.py``: runs an engine
- ``profile.py``: time of an engine's layers
- ``pieces.py``: runs the pieces of a step as engines, for tiles
- ``transfers.py``: frames to the GPU and back, beside the steps
- ``cuda.py``, ``cuda_layer.py``: the GPU at hand; what is asked of it: memory, streams, events, graphs
- ``cuda_pycuda.py``, ``cuda_bindings.py``: through pycuda; through NVIDIA's bindings
- ``runtime_cache.py``: kernels that TensorRT-RTX compiled
- ``sidecar.py``, ``spec.py``: the description beside an engine; what is asked for
- ``target.py``: GPUs, sizes and flavours of TensorRT
"""
