"""The decode step of common decoders in compiled code for CPUs, and its fall-back: where the library is not there or a decoder
has something that it does not cover, PyTorch computes as ever.
"""
