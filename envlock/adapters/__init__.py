"""The only rooms with a door outside: engine, registry, index, apt repositories, resolvers, MLflow, git, disk."""
