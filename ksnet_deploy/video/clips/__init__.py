"""Clips of HR frames, for training and measuring.

- ``find.py``: every clip under a path
- ``shards.py``: decoded clips packed in files, read without PyAV
- ``clip.py``: what a clip is; folders of frames and videos
"""
