"""Converts published checkpoints: tables of their parameter names and ours."""
