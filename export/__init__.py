"""Exporting: from a network to a proven artifact; imported as ``ksnet_deploy.export``.

- ``front.py``: ``export_onnx`` and ``build_engine`` with settings as users give them
- ``verified.py``: an ONNX file, exported and proven
- ``engine/``: a TensorRT engine
- ``int8.py``, ``calibration.py``: whole numbers for convolutions, and their ranges
- ``static_split.py``: the channels of a static split, chosen on a clip
- ``cache.py``: what was exported on demand
- ``proof/``: that an artifact computes what the network computes
- ``polygraphy.py``: NVIDIA's Polygraphy, which builds engines and compares runs
- ``memory.py``: what an export and its proof take
- ``onnx.py``, ``step.py``: tracing and writing; the step that is traced
"""
