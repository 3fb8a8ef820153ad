"""Django's database connections around items and in them."""
