"""A film before it is upscaled: a few of its frames by several networks, and what all of it would take.

- ``run.py``: the front door
- ``moments.py``: which frames, and those before them
- ``spots.py``: the frames by every network, or a part of them where whole ones would take long
- ``report.py``: what was found, as values, as text, as a sheet of pictures and as a page
"""
