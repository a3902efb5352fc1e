"""What an execution came to, as frozen values, and the rules that choose among them. Pure."""
