"""A site under load for as long as one likes, whose processes come and go: nothing that was accepted is lost."""
