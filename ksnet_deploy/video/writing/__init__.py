"""Encoding and muxing.

- ``writer.py``: a new file, with the tracks, tags and clock of the source
- ``comparison.py``: a video of composed pictures
- ``sinks.py``: frames to a folder of PNG files or to a pipe
- ``containers.py``: what fits where
- ``encoding.py``: frames into packets
- ``presets.py``, ``trial.py``, ``encoder.py``: encoders by name; trying one out; what an encoder is
"""
