"""Masks (deletion vectors): versions that leave out some of the samples that their tars store."""
