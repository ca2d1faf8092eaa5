"""Decoding: files, folders and pipes to frames and packets.

- ``reader.py``: frames of the video track, packets of the others
- ``counting.py``: how many frames a file announces, and how many it lacks
- ``tracks.py``, ``sample.py``: what a track is; the first packets of those beside the video
- ``part.py``, ``seeking.py``, ``clock.py``: a part of a film; where to seek; times of frames
- ``sources.py``, ``stills.py``: opening a file, a folder of pictures, a pipe; files of a single picture
- ``heif.py``: AVIF and HEIC: a film beside its still, transparency as a track
- ``beginnings.py``: first bytes: what a file is that is no video
- ``pages.py``: further pages of a TIFF, further pictures of a JPEG; TIFFs that are refused
"""
