"""Video in and out; the only room that imports PyAV.

Frames cross its border as (H, W, 3) RGB, uint8 or (more than 8 bits) uint16, with the presentation timestamp that they
had in the file.

- ``clips/``: frames for training and measuring, from shards, folders, videos, stills
- ``writing/``: encoders, containers, files, folders and pipes of frames
- ``reading/``: decoding, clocks, parts of a film
- ``side_data.py``, ``conversion.py``, ``colour.py``: HDR metadata; RGB and Y'CbCr; tags
- ``scaling.py``: swscale's contexts and FFmpeg's filters, kept from frame to frame
- ``picture.py``, ``jpeg.py``, ``webp.py``: single pictures; JPEG and WebP as libjpeg and libwebp have them
- ``compression.py``: a clip through an encoder and back
- ``orientation.py``, ``timecode.py``: turns and mirrors; the recorder's count of frames
- ``monochrome.py``: H.264 without colours
- ``kinds.py``: what a path names; imports nothing heavy
"""
