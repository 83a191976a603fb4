"""The control plane: settings, wiring, daemon, HTTP API and CLI. It alone composes the others."""
