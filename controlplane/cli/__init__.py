"""The command line `cpn`: a thin layer over controlplane.client. Nothing heavy is imported before a command needs it."""
