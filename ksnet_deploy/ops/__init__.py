"""The two custom operators.

- ``reference.py``: in PyTorch, the definition
- ``functions.py``: as ONNX nodes with function bodies of standard operators
- ``native.py``: the CUDA kernels for PyTorch
- ``library.py``: the native library: built, found, loaded; its sources are in ``plugins/``
"""
