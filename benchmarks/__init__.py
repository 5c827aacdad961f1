"""Drivers, runner, run folder, evaluation, speed."""
