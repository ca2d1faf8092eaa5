"""The page in the browser: films are dropped, looked at, upscaled and fetched there. Needs the extra ``web``.

- ``server.py``: the front door
- ``page.py``: what is on the page and what its buttons do, in Gradio; alone imports that
- ``guard.py``, ``login.py``: the gate before it: who may ask, from where, for what, and how much
- ``wording.py``: words and markup
- ``turns.py``, ``work.py``, ``progress.py``: who is at work and who waits; what the library is asked; how far it is
- ``jobs.py``: jobs on disk
"""
