"""Sweeps of sampling settings, their plots, and the search for few timesteps."""
