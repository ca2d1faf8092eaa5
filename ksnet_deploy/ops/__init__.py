"""The two custom operators of KSNet, ``KsDeformConv2d`` and ``KsTopKSplit``.

``reference`` holds what PyTorch computes and what the exporter emits, ``functions`` the ONNX function bodies. They are
apart because running an exported network needs the second and must not load PyTorch.
"""
