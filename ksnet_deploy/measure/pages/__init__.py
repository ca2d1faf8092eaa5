"""Pages and sheets of pictures for people to look at.

- ``page.py``, ``embedding.py``: one HTML file from a template of ``templates/``; pictures inside it
- ``lettering.py``: pictures beside each other with names on them
- ``areas.py``: where pictures differ most
- ``outputs.py``: the page and the sheet that one name asks for
"""
