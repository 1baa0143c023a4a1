"""Encoders of sound, and of other signals that are read like sound."""
