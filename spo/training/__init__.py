"""The loop that learns from Episodes, the same for every method, and the state that lets it be killed at any moment."""
