"""Computations with small promises: vision, connectors, fusion, language, heads, and the blocks they share."""
