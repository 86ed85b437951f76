"""Segment Policy Optimization (arXiv 2505.23564), replicated as small functions and a Snakemake workflow."""

__version__ = "0.1.0"
