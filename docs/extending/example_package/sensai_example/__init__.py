"""Parts for sensAI."""
