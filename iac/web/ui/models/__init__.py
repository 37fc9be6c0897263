"""What pages show, made from records by pure functions: time is an argument, nothing is read or written here."""
