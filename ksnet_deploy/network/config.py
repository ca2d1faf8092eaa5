"""Frozen values that everything else is built from: the frame size and the network's configuration."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from ksnet_deploy.base.errors import ConfigError

__all__ = [
    "Alignment",
    "Direction",
    "FlowGuidance",
    "KSNetConfig",
    "Precision",
    "RefineAlignment",
    "Slots",
    "StepName",
    "Upsampler",
]

FlowGuidance = Literal["none", "prev1", "prev2", "multi"]
Alignment = Literal["literal", "consistent"]
Direction = Literal["uni", "bi"]
Slots = Literal["order", "rank", "masked"]
Upsampler = Literal["progressive", "direct"]
RefineAlignment = Literal["deformable", "flow"]
Precision = Literal["fp32", "fp16", "int8", "int8-fp16"]
"""Precision of the convolutions of an exported network; see ``precision.py``. In ``int8`` most are whole numbers, the
rest float32; in ``int8-fp16`` those that enlarge are, the rest half; both are for CPUs."""
StepName = Literal["step", "propagate", "refine"]
"""A recurrent step: the one of uni; the two of bi, backward in time and forward."""


WIDEST = 1024
"""Largest of the numbers of channels, blocks and levels; far beyond what any machine trains."""
_WIDTHS = (
    *("channels", "extract_blocks", "reconstruct_blocks", "deform_groups", "split_levels"),
    *("flow_channels", "flow_levels", "offset_channels", "offset_stride"),
)
_MOST = {"flow_levels": 6, "offset_stride": 2}
_CHOICES: dict[str, Any] = {
    "flow_guidance": FlowGuidance,
    "alignment": Alignment,
    "direction": Direction,
    "slots": Slots,
    "upsampler": Upsampler,
    "refine_alignment": RefineAlignment,
}
_SIZES: dict[str, dict[str, Any]] = {
    "paper": {},
    # The flow to the last frame alone: worth 0.13 dB against the paper's two flows, at equal cost
    # (benchmarks/results/ablations-lite.json).
    "uni": {"flow_guidance": "prev1"},
    # For CPUs: 12.7 GMACs for a frame of 180x320. Flow at half of its size, offsets for every other pixel and one
    # deformable alignment cost 6.9 GMACs less than the whole, and nothing on the validation clips (docs/results.md).
    "lite": {
        "channels": 32,
        "extract_blocks": 3,
        "deform_groups": 4,
        "offset_channels": 16,
        "flow_channels": 16,
        "upsampler": "direct",
        "flow_guidance": "prev1",
        "flow_levels": 5,
        "offset_stride": 2,
        "refine_alignment": "flow",
    },
}


@dataclass(frozen=True)
class KSNetConfig:
    """Everything that shapes the network. The defaults are the paper's KSNet-uni.

    Raises ConfigError on construction when a value is out of range.
    """

    channels: int = 64
    """Width C of all feature maps."""
    extract_blocks: int = 5
    """Residual blocks that extract the features of one frame."""
    reconstruct_blocks: int = 1
    """Residual blocks after the two branches are joined."""
    deform_groups: int = 8
    """Groups of channels with offsets of their own in the deformable alignment."""
    split_levels: int = 3
    """Hierarchies of the multi-channel selection unit."""
    keep_ratio: float = 0.75
    """Share of the channels that each hierarchy keeps as high-value; 1 switches the selection off."""
    flow_guidance: FlowGuidance = "multi"
    """Flows that guide the alignment (the paper's Table 3): none, n->n-1, n->n-2, or both."""
    alignment: Alignment = "literal"
    """Reading of Eq. (12) under ``multi``: ``literal`` samples the previous feature at the flow to n-2;
    ``consistent`` lets half of the groups sample n-1 at the flow to n-1 and half n-2 at the flow to n-2."""
    direction: Direction = "uni"
    """``uni``: both branches run forward in time. ``bi``: the first runs backward over a window."""
    slots: Slots = "order"
    """Pairing of kernels and selected channels: channels packed in ascending ``order``, packed by ``rank`` of their
    score, or ``masked``: every channel keeps its own row and column of a full kernel bank."""
    upsampler: Upsampler = "progressive"
    """``progressive``: two 2x pixel shuffles with convolutions at HR size. ``direct``: one 4x pixel shuffle to RGB."""
    flow_channels: int = 32
    """Width of SpyNet: each level is 8 -> f -> 2f -> f -> f/2 -> 2 channels; the public weights have 32."""
    flow_levels: int = 6
    """Levels of SpyNet, from the coarsest, each of twice the size; fewer give a flow of a part of the frame's size,
    which is enlarged."""
    offset_channels: int = 64
    """Width between the two convolutions that predict the sampling offsets."""
    offset_stride: int = 1
    """1: offsets are predicted for every pixel; 2: for every other in height and width, and enlarged."""
    refine_alignment: RefineAlignment = "deformable"
    """Alignment of the second branch: ``deformable`` as the first's, or by the ``flow`` alone."""
    reparameterize: bool = True
    """Train RCBs that fold into plain convolutions; False trains plain ones (the paper's Table 2)."""

    def __post_init__(self) -> None:
        for name in _WIDTHS:
            value = getattr(self, name)
            most = _MOST.get(name, WIDEST)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                raise ConfigError(f"{name} is {value!r}; it must be a whole number from 1 to {most}")
        if self.flow_channels < 2:
            raise ConfigError(f"flow_channels is {self.flow_channels}; the flow network's narrowest layer needs 2")
        if self.channels % self.deform_groups:
            raise ConfigError(f"channels ({self.channels}) must be a multiple of deform_groups ({self.deform_groups})")
        if not isinstance(self.keep_ratio, (int, float)) or not 0 < self.keep_ratio <= 1:
            raise ConfigError(f"keep_ratio is {self.keep_ratio!r}; it must be a number, above 0 and at most 1")
        if not isinstance(self.reparameterize, bool):
            raise ConfigError(f"reparameterize is {self.reparameterize!r}; it must be true or false")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in get_args(allowed):
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(get_args(allowed))}"
                )
        if self.alignment == "consistent" and (self.flow_guidance != "multi" or self.deform_groups % 2):
            raise ConfigError(
                "alignment 'consistent' needs flow_guidance 'multi' and an even number of deform_groups, found "
                f"'{self.flow_guidance}' and {self.deform_groups}"
            )
        if min(self.level_channels) < 1:
            raise ConfigError(
                f"keep_ratio {self.keep_ratio} leaves no channel after {self.split_levels} levels of "
                f"{self.channels} channels; raise keep_ratio or lower split_levels"
            )

    @property
    def level_channels(self) -> tuple[int, ...]:
        """Channels that enter each split level, then those that leave the last: (64, 48, 36, 27)."""
        widths = [self.channels]
        for _ in range(self.split_levels):
            widths.append(round(widths[-1] * self.keep_ratio))
        return tuple(widths)

    @property
    def steps(self) -> tuple[StepName, ...]:
        """Names of the recurrent steps that the network consists of, in the order in which they run."""
        return ("step",) if self.direction == "uni" else ("propagate", "refine")

    def to_json(self) -> str:
        """The configuration as one line of JSON, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def named(cls, name: str) -> KSNetConfig:
        """The configuration ``uni``, ``lite``, or ``paper``, uni as published. Raises ConfigError for another name."""
        if name not in _SIZES:
            raise ConfigError(f"'{name}' is no size of KSNet; choose one of {', '.join(_SIZES)}")
        return cls(**_SIZES[name])

    @classmethod
    def from_json(cls, text: str) -> KSNetConfig:
        """Read what :meth:`to_json` wrote. Raises ConfigError on malformed text or an unknown key."""
        try:
            values: dict[str, Any] = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"the network configuration is not valid JSON ({error})") from error
        if not isinstance(values, dict):
            raise ConfigError(f"the network configuration is {values!r}; a JSON object was expected")
        unknown = sorted(values.keys() - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(
                f"the network configuration has the unknown setting {', '.join(unknown)}; "
                "it was made by another version of ksnet-deploy, so upgrade the package"
            )
        return cls(**values)

    def replace(self, settings: Iterable[str]) -> KSNetConfig:
        """A copy with settings such as ``keep_ratio=0.5`` changed. Raises ConfigError when one cannot be."""
        values = asdict(self)
        for setting in settings:
            name, _, text = setting.partition("=")
            if name not in values:
                raise ConfigError(f"'{setting}' is no setting; write NAME=VALUE with a name of {', '.join(values)}")
            try:
                kind = type(values[name])
                values[name] = {"true": True, "false": False}.get(text, text) if kind is bool else kind(text)
            except ValueError as error:
                raise ConfigError(
                    f"{name} is '{text}'; a value of type {type(values[name]).__name__} was expected"
                ) from error
        return type(self)(**values)
