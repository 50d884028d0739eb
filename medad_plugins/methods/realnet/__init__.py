"""RealNet: chosen features are rebuilt, and a network looks at the residuals that stand out."""

from __future__ import annotations

from medad_plugins.methods.realnet.channel_selection import ChannelSelection
from medad_plugins.methods.realnet.choose_channels import ChooseChannels
from medad_plugins.methods.realnet.loss import RealNetLoss
from medad_plugins.methods.realnet.network import RealNet
from medad_plugins.methods.realnet.ranked_residuals import RankedResiduals

__all__ = [
    "ChannelSelection",
    "ChooseChannels",
    "RankedResiduals",
    "RealNet",
    "RealNetLoss",
]
