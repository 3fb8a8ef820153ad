"""What runs items: threads for sync ones, one event loop for async ones; neither Django nor asgiref."""
