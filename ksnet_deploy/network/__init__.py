"""KSNet itself.

- ``model.py``: one recurrent step, (lr, state) -> (hr, state)
- ``steps.py``: the recurrent steps of a network, the one of uni and the two of bi, as one interface
- ``state_names.py``: the parts of the state that a configuration reads
- ``alignment.py``, ``channel_selection.py``: past features brought to the current frame; the kernel split
- ``static_split.py``: that split, frozen to the channels that a clip chose
- ``pixels.py``: frames of the world to the planes that it computes on, and back
- ``blocks.py``, ``flow.py``: re-parameterized convolutions; SpyNet
- ``folding.py``: the fold, as algebra on (weight, bias)
- ``checkpoints.py``, ``weights_file.py``: weights in files of ours; weights as other tools leave them
- ``weight_names.py``, ``checkpoint_values.py``: names as trainers leave them; NumPy's numbers beside them
- ``bundled.py``: checkpoints by name and path; the weights that ship with the package
- ``checkpoint_config.py``, ``macs.py``: configuration and work of a network, without loading PyTorch
- ``elements.py``: frames that GPU libraries can count
- ``precision.py``, ``complexity.py``: what is half and what float32; parameters and multiply-adds
- ``config.py``: everything that shapes the network
"""
