"""Training: data (``clips``, ``shards``, ``dataset``, ``motion``), recipe, loop, and the flow network's pretraining."""
