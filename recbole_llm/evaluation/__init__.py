"""Ranks of every evaluated target, and what is made of them."""
