"""Hostile packets without end, through the BPF programs and through the Python reference: both have to agree."""
