"""What an operator does, by command, page or code: look, cancel, drain."""
