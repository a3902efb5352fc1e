"""What callers ask for, one file each; what a command did is durable when it returns."""
