"""Runtimes that run a network, frame by frame, behind one interface.

- ``open.py``: the runner of any artifact
- ``torch.py``, ``onnx.py``, ``lockstep.py``: PyTorch; ONNX Runtime; ONNX Runtime pausing where channels are ranked
- ``torch_recorded.py``, ``torch_kernels.py``: PyTorch's step as CUDA graphs; our CUDA kernels in it
- ``torch_padding.py``: channels in whole vectors, for tensor cores
- ``onnx_recorded.py``, ``likeness.py``: ONNX Runtime's step as CUDA graphs; whether a recorded step is the plain one
- ``openvino.py``: OpenVINO on the CPU
- ``int8.py``: files with an int8 piece
- ``rewrites.py``, ``gradients.py``: what a file is rewritten to for a CPU
- ``tensorrt/``: engines
- ``gpu.py``: the GPU of this machine
- ``windows.py``, ``pair.py``: a bidirectional network, whose two steps run over windows; its two exported files
- ``lanes.py``: scenes side by side, as one batch
- ``tiles.py``, ``pieces.py``: a frame in tiles, which rank their channels together; steps in pieces, for that
- ``places.py``: what a tile is told of its place in the frame
- ``step_file.py``, ``exported.py``: what an exported file says of itself; the same of an engine, for people
- ``base.py``: the interface
"""
