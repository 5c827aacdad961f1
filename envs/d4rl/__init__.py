"""D4RL's locomotion environments."""
