"""The command line: arguments in, exit code out. The only place that prints or reads the environment."""
