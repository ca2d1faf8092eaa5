"""Training: from clips to a checkpoint.

- ``front.py``: ``train`` with settings as users give them
- ``run.py``: what ``train`` and ``train-flow`` do
- ``loop.py``, ``optimizer.py``, ``log.py``, ``pace.py``: the loop with exact resume; Muon and Adam; the log; how long
- ``loop_settings.py``: how a run goes; ``recorded.py``: loss and gradients as a CUDA graph
- ``world.py``, ``interruption.py``: several processes; signals, lost processes
- ``run_folder.py``: what a run keeps to go on with
- ``memory.py``: what a batch takes at the least
- ``task.py``, ``ksnet_task.py``, ``flow_task.py``, ``losses.py``: what is trained, and on what
- ``pack.py``, ``dataset.py``, ``motion.py``: shards; windows; synthetic motion
- ``loading.py``: batches from processes that load
- ``start.py``, ``flow_weights.py``, ``recipe.py``: weights to start from; those of flow networks; schedules
"""
