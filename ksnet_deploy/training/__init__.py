"""From clips to a checkpoint.

- ``run.py``: what ``train`` and ``train-flow`` do
- ``loop.py``, ``optimizer.py``, ``log.py``: the loop with exact resume; Muon and Adam; the log
- ``world.py``, ``interruption.py``: several processes; signals, a second training, lost processes
- ``ksnet_task.py``, ``flow_task.py``: what is trained
- ``pack.py``, ``dataset.py``, ``motion.py``: shards; windows; synthetic motion
- ``flow_weights.py``, ``recipe.py``: weights of flow networks; schedules
"""
