"""Views into a network: flow, gradient maps, and the channels that it keeps.

- ``run.py``: the front door
- ``recorder.py``: the values of a forward pass, taken by hooks
- ``maps.py``: the maps of Eqs. (1) and (2), and colours for them
- ``channels.py``: over several frames, which channels are kept, and how often that changes
- ``report.py``: all of it as values, as text, as a sheet of pictures and as a page
"""
