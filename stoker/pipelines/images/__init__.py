"""Decoding, colour and perceptual hashes of images."""
