"""The commands: options in, sentences and JSON out. The entry point is ``app.main``.

- ``app.py``: the application; errors become a sentence and an exit code
- ``upscale.py``, ``export.py``, ``engines.py``, ``measure.py``, ``compare.py``, ``seeing.py``, ``training.py``,
  ``doctor.py``, ``web.py``: the commands
- ``convert.py``: weights of other tools to a checkpoint with its configuration
- ``training_run.py``: a training with its progress shown
- ``batch.py``, ``together.py``, ``answers.py``: several videos; at once, on a cluster; what is printed
- ``checks.py``, ``diagnosis.py``, ``requirements.py``: what this machine can do; the answer; versions
- ``inputs.py``, ``options.py``, ``terminal.py``: videos and values; shared options; progress
"""
