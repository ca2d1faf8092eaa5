"""Encoding and muxing: frames and packets to files, folders and pipes.

- ``writer.py``: a new file, with the tracks, tags and clock of the source
- ``comparison.py``: a video of composed pictures
- ``sinks.py``: frames to a folder of PNG files or to a pipe
- ``containers.py``: what fits where
- ``tracks.py``: what becomes of the other tracks
- ``sound.py``, ``subtitles.py``: tracks in another codec
- ``encoding.py``: frames into packets
- ``presets.py``, ``trial.py``, ``encoder.py``: encoders by name; trying one out; what an encoder is
"""
