"""Ground floor, which every room stands on: it imports nothing of the package but itself.

- ``errors.py``: the tree of errors, each one sentence for a user
- ``version.py``: the version of the package
- ``files.py``: files that appear whole or not at all; hashes
- ``hidden.py``: names of hidden files
- ``closing.py``: what a ``with`` statement closes
- ``locks.py``: locks between processes
- ``memory.py``: what is left to this process
- ``sealed.py``: JSON files with a hash of what they say
- ``leftovers.py``: what killed processes left behind
- ``frames.py``: sizes and element types of frames, levels, borders
- ``machine.py``: cores, processor, memory taken
- ``metrics.py``: PSNR and SSIM
- ``words.py``: sentences that agree with numbers
"""
