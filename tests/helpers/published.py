"""A checkpoint as the published code writes it."""

from __future__ import annotations

import torch

from skag.methods.skeleton_agent import published
from skag.methods.skeleton_agent.network import ModelConfig, Recogniser

SHAPE = ModelConfig(4, 25, 2, channels=(16, 24), strides=(1, 2), embedding_dim=6, learned_scale=True)


def checkpoint(config: ModelConfig = SHAPE) -> dict[str, torch.Tensor]:
    """A small checkpoint with the published names and shapes."""
    torch.manual_seed(0)
    own = Recogniser(config).state_dict()
    own["critical_joints"] = (torch.rand(config.num_classes, config.num_joints) < 0.3).float()
    state = {}
    for weight in published.weight_table(config):
        value = weight.part_of(own[weight.ours]).clone()
        name = weight.theirs.rpartition(".")[2]
        if name == "examplar":
            value = value[:, :, None].repeat(1, 1, config.num_joints)
        elif name == "logit_scale":
            value = value.view(1, 1)
        elif name in ("alpha", "beta"):
            value = torch.cat([value, torch.randn(7)])
        elif ".conv1." in weight.theirs or ".conv2." in weight.theirs or "direct_fc" in weight.theirs:
            value = value[..., None, None] if value.ndim == 2 else value
        state[weight.theirs] = value
    state["backbone.data_bn.num_batches_tracked"] = torch.tensor(7)
    return state
