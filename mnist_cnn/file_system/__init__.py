"""Files as users mean them, and as they are written: whole or not at all."""
