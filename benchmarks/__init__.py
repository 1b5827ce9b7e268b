"""Measurements; each module is run by itself and prints what it found."""
