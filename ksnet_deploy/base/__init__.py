"""What every room needs: it imports nothing of the package but itself.

- ``errors.py``: the tree of errors, each one sentence for a user
- ``version.py``: the version of the package
- ``files.py``: files that appear whole or not at all; hashes
- ``locks.py``: locks between processes
- ``frames.py``: sizes and element types of frames, levels, borders
- ``machine.py``: cores, processor, memory taken
- ``metrics.py``: PSNR and SSIM
"""
