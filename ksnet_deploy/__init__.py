"""KSNet-Deploy: from trained KSNet weights to video that plays four times larger."""

__version__ = "0.1.0"
