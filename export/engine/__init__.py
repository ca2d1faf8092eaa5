"""Engines of TensorRT: from a checkpoint to a proven one.

- ``make.py``: what is asked for: export, compile, prove
- ``compile.py``, ``compiler.py``: this side of the compilation; the process that it runs in
- ``layers.py``: checks of the compiled layers
"""
