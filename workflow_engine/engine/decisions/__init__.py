"""The outcomes of executions and polls, as frozen values, and the rules that choose among them. Pure."""
