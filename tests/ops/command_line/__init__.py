"""`etude ask` and `etude job` as processes of their own, against a running Etude."""
