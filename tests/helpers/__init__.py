"""Small things whose right answer is known by construction."""
