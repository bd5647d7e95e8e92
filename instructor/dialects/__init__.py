"""How each API family wants to be spoken to."""
