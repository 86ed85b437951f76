"""Greedy and sampled accuracy: generate once at the longest context, grade at every context, score with intervals."""
