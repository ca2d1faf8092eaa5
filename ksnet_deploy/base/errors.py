"""Every exception the package raises on purpose.

    KSNetError
    ├── ConfigError          a setting or a combination of settings that cannot work
    ├── CheckpointError      a weights file that cannot be loaded into the network
    ├── ArtifactError        an ONNX file that is broken, foreign, or does not fit the request
    │   └── VerificationError    an exported network whose output differs from PyTorch's
    ├── TrainingError        a training run that cannot go on
    ├── BackendError         a runtime that is missing on this machine or cannot run the artifact
    └── MediaError           a video that cannot be read or written
        ├── InputError
        └── OutputError

The message of each is one sentence: what happened, what was found, what was expected, and the remedy.
Remedies are in the words of the command line: ``--overwrite`` is ``overwrite=True`` from Python.
The command line prints that sentence and exits with 1; it never shows a traceback for a KSNetError.
"""

__all__ = [
    "ArtifactError",
    "BackendError",
    "CheckpointError",
    "ConfigError",
    "InputError",
    "KSNetError",
    "MediaError",
    "OutputError",
    "TrainingError",
    "VerificationError",
]


class KSNetError(Exception):
    """Base class: anything that went wrong and that the user can act on."""


class ConfigError(KSNetError):
    """A setting, or a combination of settings, that cannot work."""


class CheckpointError(KSNetError):
    """A weights file that cannot be loaded into the network."""


class ArtifactError(KSNetError):
    """An exported file that is broken, foreign, or does not fit the request."""


class VerificationError(ArtifactError):
    """An exported network whose output differs from PyTorch's."""


class TrainingError(KSNetError):
    """A training run that cannot go on."""


class BackendError(KSNetError):
    """A runtime that is missing on this machine or cannot run the artifact."""


class MediaError(KSNetError):
    """A video that cannot be read or written."""


class InputError(MediaError):
    """A source video that cannot be read."""


class OutputError(MediaError):
    """A target video that cannot be written."""
