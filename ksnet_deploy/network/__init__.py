"""KSNet itself.

- ``model.py``: one recurrent step, (lr, state) -> (hr, state)
- ``channel_selection.py``, ``blocks.py``, ``flow.py``: the kernel split; re-parameterized convolutions; SpyNet
- ``folding.py``: the fold, as algebra on (weight, bias)
- ``checkpoints.py``, ``weights_file.py``: weights in files of ours; weights as other tools leave them
- ``checkpoint_config.py``, ``bundled.py``: what can be known without PyTorch: configuration, paths, bundled weights
- ``precision.py``, ``complexity.py``: what is half and what float32; parameters and multiply-adds
- ``config.py``: everything that shapes the network
"""
