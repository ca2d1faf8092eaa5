"""Films over many workers, on one machine or many. Ray is the engine, and is loaded when a cluster is asked for.

- ``front.py``: the front door
- ``opening.py``, ``nodes.py``: Ray: loading it, versions; joining or starting a cluster, workers on its machines
- ``crew.py``, ``pool.py``: a thread for each worker; chains of scenes that wait for one, and which is next
- ``witness.py``: says why the command has ended where Ray ended it without a word
- ``film.py``, ``chunks.py``: a film cut into chains; frames on their way
- ``worker.py``, ``parcel.py``: what runs on a machine; how a network gets there
"""
