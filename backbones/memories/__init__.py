"""Memories: what a learner keeps of the past."""

from rlbench.backbones.memories._base import Memory, forget

__all__ = ["Memory", "forget"]
