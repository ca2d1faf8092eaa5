"""Proof that an artifact computes what the network computes, over recurrent frames.

- ``float32.py``: an ONNX file against PyTorch
- ``half.py``: half precision against float32
- ``stepping.py``: two runners side by side, frame by frame
- ``pair.py``: both steps of a bidirectional network
- ``near_ties.py``: channels whose scores are nearly equal
- ``rounding.py``: half precision on runtimes that have none
- ``outputs.py``, ``recording.py``: each output by itself, over recorded states; recording them
- ``explanation.py``: what a failed proof says beside its verdict
- ``sequence.py``: the frames, and the reset among them
"""
