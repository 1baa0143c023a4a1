"""Tokenizers of pictures and sound: views to discrete codes and back."""
