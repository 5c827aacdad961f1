"""Robots of MuJoCo as points: their poses, without physics and pictures."""
