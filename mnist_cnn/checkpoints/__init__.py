"""Checkpoint files and run folders: written whole, read though damaged, gone on with."""
