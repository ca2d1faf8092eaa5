"""Runtimes that run a network, frame by frame, behind one interface.

- ``open.py``: the runner of any artifact
- ``torch.py``, ``onnx.py``, ``lockstep.py``: PyTorch; ONNX Runtime; ONNX Runtime pausing where channels are ranked
- ``tensorrt/``: engines
- ``tiles.py``: a frame in tiles, which rank their channels together
- ``step_file.py``, ``exported.py``: what an exported file says of itself; the same of an engine, for people
- ``base.py``: the interface
"""
