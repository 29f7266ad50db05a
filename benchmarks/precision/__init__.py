"""How much of what interventions say low precision changes, and what would settle it."""
