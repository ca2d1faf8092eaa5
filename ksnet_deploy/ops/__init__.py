"""The custom operators.

- ``reference.py``: in PyTorch, the definition
- ``functions.py``: as ONNX nodes with function bodies of standard operators
- ``rewriting.py``: the nodes that a device's runtime is fastest at, in their place
- ``epilogue.py``: what follows a convolution, as one operation
- ``padding.py``: the split with channels in whole vectors
- ``native.py``: the CUDA kernels for PyTorch
- ``kernel_params.py``, ``kernel_structs.py``: what their launchers take, filled from tensors; the structs of C
- ``align_library.py``: the alignment's CPU kernel for ONNX Runtime and OpenVINO: built, found, switched off
- ``library.py``: the native library: built, found, loaded; its sources are in ``plugins/``
"""
