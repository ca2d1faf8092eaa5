"""Engines of TensorRT: from a checkpoint to a proven one.

- ``make.py``: what is asked for: export, compile, prove
- ``tiles.py``: engines of the pieces of a step, for tiles
- ``compile.py``, ``compiler.py``: this side of the compilation; the process that it runs in
- ``request.py``, ``loaders.py``: what that process is told; Polygraphy's loaders, which do the work there
- ``proof.py``, ``compare.py``: the engine on its GPU against float32; each output by itself
- ``layers.py``: checks of the compiled layers
"""
