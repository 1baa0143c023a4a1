"""From files to tensors under one plan: safe decoding, geometry, resizing."""
