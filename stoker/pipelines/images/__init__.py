"""Decoding images, their formats and colours, and finding near-duplicates by perceptual hashes."""
