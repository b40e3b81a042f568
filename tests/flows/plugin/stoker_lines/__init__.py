"""Found by Stoker through its entry point, as any other package of sources is."""
