"""Runs the platform as processes on this machine, without containers."""
