"""Shapes that users name."""
