"""Small networks, data and services whose right answer is known by construction."""
